"""Documents as clients send them: strings, objects with text or other fields, images."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from models.images import DATA_URI, ImageDocument
from models.types import Document
from serve_app.api.dialects.base import Limits, dumps, json_type
from serve_app.errors import BadRequest, InvalidRequest, TooManyDocuments

# orjson writes no deeper than 254 levels; an object document comes back inside about five.
MAX_DOCUMENT_DEPTH = 100
MAX_RANK_FIELDS = 100
_BASE64 = re.compile(r"[A-Za-z0-9+/]{16,}={0,2}", re.ASCII)


def documents(
    body: Mapping[str, Any], limits: Limits, name: str = "documents", *, ranked: bool = False
) -> tuple[tuple[Document, ...], tuple[Any, ...] | None]:
    """What to score, and what the client sent (None where that is the same).

    `ranked`: `rank_fields` names the fields of object documents that are scored.
    """
    value = body.get(name)
    if value is None or value == []:
        raise BadRequest(f"invalid request: list of {name} must not be empty", param=name)
    if not isinstance(value, list):
        raise InvalidRequest(
            f"{name} must be a list of strings or objects with text, not {json_type(value)}.",
            param=name,
        )
    check_count(len(value), limits, name)
    fields = rank_fields(body) if ranked else None
    texts = tuple(
        [d if type(d) is str else _object(f"{name}[{i}]", d, limits, fields)
         for i, d in enumerate(value)]
    )  # fmt: skip
    plain = all(type(d) is str for d in value)
    return texts, None if plain else tuple(value)


def texts(body: Mapping[str, Any], limits: Limits, name: str) -> tuple[str, ...]:
    """Documents in a format that knows only strings."""
    value = body.get(name)
    if value is None or value == []:
        raise BadRequest(f"invalid request: list of {name} must not be empty", param=name)
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise InvalidRequest(f"{name} must be a list of strings.", param=name)
    check_count(len(value), limits, name)
    return tuple(value)


def check_count(count: int, limits: Limits, name: str) -> None:
    if count > limits.max_documents:
        raise TooManyDocuments(
            f"{name} has {count} entries; at most {limits.max_documents} are accepted."
            " Split them over several requests.",
            param=name,
        )


def rank_fields(body: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The names of the fields to score, in their order; None: `text`."""
    value = body.get("rank_fields")
    if value is None or value == []:
        return None
    sound = isinstance(value, list) and all(isinstance(name, str) and name for name in value)
    if not sound or len(value) > MAX_RANK_FIELDS:
        raise InvalidRequest(
            f"rank_fields must be a list of at most {MAX_RANK_FIELDS} field names.",
            param="rank_fields",
        )
    return tuple(dict.fromkeys(value))


def _object(where: str, document: Any, limits: Limits, fields: Sequence[str] | None) -> Document:
    if not isinstance(document, Mapping):
        raise InvalidRequest(
            f"{where} is {json_type(document)}; a string or an object with text is accepted.",
            param=where,
        )
    if _depth_over(document, MAX_DOCUMENT_DEPTH):
        raise InvalidRequest(
            f"{where} is nested deeper than {MAX_DOCUMENT_DEPTH} levels.", param=where
        )
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
    if isinstance(image, str) and not by_url and _BASE64.fullmatch(image):
        # Jina's documentation sends base64 alone; the decoder looks at the bytes, not the type.
        image = f"data:image/png;base64,{image}"
    if not by_url and not (isinstance(image, str) and DATA_URI.match(image)):
        raise InvalidRequest(
            f"{where}.image must be a data URI (data:image/png;base64,…).", param=f"{where}.image"
        )
    found: str = image
    return found


def _text(where: str, document: Mapping[str, Any]) -> str:
    text = document.get("text")
    if not isinstance(text, str):
        found = json_type(text) if "text" in document else "missing"
        raise InvalidRequest(
            f"{where}.text is {found}; an object document needs a string there.",
            param=f"{where}.text",
        )
    return text


def _depth_over(value: Any, levels: int) -> bool:
    if isinstance(value, Mapping):
        value = value.values()
    elif not isinstance(value, list):
        return False
    return levels == 0 or any(_depth_over(v, levels - 1) for v in value)
