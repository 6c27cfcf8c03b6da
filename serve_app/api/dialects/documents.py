"""Parse documents as clients send them: strings, objects with text or other fields, images."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from typing import Any

from models.images import DATA_URI, ImageDocument
from models.types import Document
from serve_app.api.dialects.base import Limits, dumps, json_type
from serve_app.errors import BadRequest, InvalidRequest, TooManyDocuments

# orjson writes at most 254 levels, and a response adds about five around an object document.
MAX_DEPTH = 100
MAX_RANK_FIELDS = 100
_BASE64 = f"{string.ascii_letters}{string.digits}+/".encode()

# The documents to score, and what the client sent; None if that is the same.
Parsed = tuple[tuple[Document, ...], tuple[Any, ...] | None]
# Longer declarations of an image's type are refused, so that only the start of one is searched.
_MAX_DECLARATION = 256


def documents(
    body: Mapping[str, Any], limits: Limits, name: str = "documents", *, ranked: bool = False
) -> Parsed:
    """Return the documents to score, and what the client sent (None if that is the same).

    `ranked`: honour `rank_fields`, the names of the object documents' fields to score.
    """
    value = listed(body, limits, name)
    fields = rank_fields(body) if ranked else None
    texts = tuple(
        [d if type(d) is str else _object(f"{name}[{i}]", d, limits, fields)
         for i, d in enumerate(value)]
    )  # fmt: skip
    plain = all(type(d) is str for d in value)
    return texts, None if plain else tuple(value)


def listed(body: Mapping[str, Any], limits: Limits, name: str) -> list[Any]:
    """Return the documents as sent. Raises InvalidRequest unless they are a list that fits."""
    value = body.get(name)
    if value is None or value == []:
        raise BadRequest(f"invalid request: list of {name} must not be empty", param=name)
    if not isinstance(value, list):
        raise InvalidRequest(
            f"{name} must be a list of strings or objects with text, not {json_type(value)}.",
            param=name,
        )
    check_count(len(value), limits, name)
    return value


def texts(body: Mapping[str, Any], limits: Limits, name: str) -> tuple[str, ...]:
    """Return the documents of a format that only has strings."""
    value = body.get(name)
    if value is None or value == []:
        raise BadRequest(f"invalid request: list of {name} must not be empty", param=name)
    if isinstance(value, list):
        check_count(len(value), limits, name)
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise InvalidRequest(f"{name} must be a list of strings.", param=name)
    return tuple(value)


def check_count(count: int, limits: Limits, name: str) -> None:
    if count > limits.max_documents:
        raise TooManyDocuments(
            f"{name} has {count} entries; the maximum is {limits.max_documents}."
            " Split them into several requests.",
            param=name,
        )


def rank_fields(body: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return the names of the fields to score, in order; None means `text`."""
    value = body.get("rank_fields")
    if value is None or value == []:
        return None
    valid = isinstance(value, list) and len(value) <= MAX_RANK_FIELDS
    if not valid or not all(isinstance(name, str) and name for name in value):
        raise InvalidRequest(
            f"rank_fields must be a list of at most {MAX_RANK_FIELDS} field names.",
            param="rank_fields",
        )
    return tuple(dict.fromkeys(value))


def _object(where: str, document: Any, limits: Limits, fields: Sequence[str] | None) -> Document:
    if not isinstance(document, Mapping):
        raise InvalidRequest(
            f"{where} must be a string or an object with text, not {json_type(document)}.",
            param=where,
        )
    check_depth(where, document)
    if fields is not None:
        return _joined(where, document, fields)
    if document.get("image") is None:
        return _text(where, document)
    caption = {"text": document.get("text") or ""}
    return ImageDocument(_image(where, document["image"], limits), _text(where, caption))


def _joined(where: str, document: Mapping[str, Any], fields: Sequence[str]) -> str:
    values = [document[name] for name in fields if document.get(name) is not None]
    if not values:
        raise InvalidRequest(
            f"{where} has none of the rank_fields {', '.join(fields)}.", param=where
        )
    return "\n".join(v if isinstance(v, str) else dumps(v).decode() for v in values)


def _image(where: str, image: Any, limits: Limits) -> str:
    by_url = isinstance(image, str) and image.startswith(("http://", "https://"))
    if by_url and not limits.image_urls:
        raise InvalidRequest(
            f"{where}.image is a URL, which this service does not fetch; send a data URI.",
            param=f"{where}.image",
        )
    if isinstance(image, str) and not by_url and _is_base64(image):
        # Jina's documentation sends plain base64; the decoder ignores the declared type.
        image = f"data:image/png;base64,{image}"
    if not by_url and not (isinstance(image, str) and is_data_uri(image)):
        raise InvalidRequest(
            f"{where}.image must be a data URI (data:image/png;base64,…).", param=f"{where}.image"
        )
    found: str = image
    return found


def _is_base64(image: str) -> bool:
    padding = len(image) - len(image[-2:].rstrip("=")) - len(image[:-2])
    data = image[: len(image) - padding]
    return len(data) >= 16 and data.isascii() and not data.encode().translate(None, _BASE64)


def is_data_uri(image: str) -> bool:
    return DATA_URI.match(image, 0, _MAX_DECLARATION) is not None


def _text(where: str, document: Mapping[str, Any]) -> str:
    text = document.get("text")
    if not isinstance(text, str):
        wrong = f"must be a string, not {json_type(text)}" if "text" in document else "is missing"
        raise InvalidRequest(f"{where}.text {wrong}.", param=f"{where}.text")
    return text


def check_depth(where: str, value: Any) -> None:
    """Raise InvalidRequest if lists and objects are nested deeper than MAX_DEPTH levels."""
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return
    raise InvalidRequest(f"{where} is nested deeper than {MAX_DEPTH} levels.", param=where)
