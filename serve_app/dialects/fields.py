"""The fields that the dialects have in common: read and checked one at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from models.images import DATA_URI, ImageDocument
from models.text import well_formed
from models.types import Document, LongDocument, ScoreOptions
from serve_app.dialects.base import BadRequest, Limits, json_type
from serve_app.errors import InvalidRequest
from serve_app.types import RerankResult

MAX_MODEL_CHARS = 256
MAX_INSTRUCTION_CHARS = 4096
MAX_IMAGE_CHARS = 10 * 2**20
# orjson writes no deeper than 254 levels; an object document comes back inside about five.
MAX_DOCUMENT_DEPTH = 100
_NAMED_INDICES = 20


def query(body: Mapping[str, Any], limits: Limits) -> str:
    value = body.get("query")
    blank = value is None or (isinstance(value, str) and not value.strip())
    if blank and body.get("query_image_url") is not None:
        return ""
    if value is None:
        raise BadRequest("invalid request: query must not be empty", param="query")
    if not isinstance(value, str):
        raise InvalidRequest(f"query must be a string, not {json_type(value)}.", param="query")
    if not value.strip():
        raise BadRequest("invalid request: query must not be empty", param="query")
    if len(value) > limits.max_query_chars:
        raise InvalidRequest(
            f"query has {len(value)} characters; at most {limits.max_query_chars} are accepted.",
            param="query",
        )
    return value


def documents(
    body: Mapping[str, Any], limits: Limits
) -> tuple[tuple[Document, ...], tuple[Any, ...] | None]:
    """What to score, and what the client sent (None where that is the same)."""
    value = body.get("documents")
    if value is None or value == []:
        raise BadRequest("invalid request: list of documents must not be empty", param="documents")
    if not isinstance(value, list):
        raise InvalidRequest(
            f"documents must be a list of strings or objects with text, not {json_type(value)}.",
            param="documents",
        )
    if len(value) > limits.max_documents:
        raise InvalidRequest(
            f"documents has {len(value)} entries; at most {limits.max_documents} are accepted."
            " Split them over several requests.",
            param="documents",
        )
    texts = tuple([d if type(d) is str else _object(i, d, limits) for i, d in enumerate(value)])
    plain = all(type(d) is str for d in value)
    return texts, None if plain else tuple(value)


def _object(index: int, document: Any, limits: Limits) -> Document:
    where = f"documents[{index}]"
    if not isinstance(document, Mapping):
        raise InvalidRequest(
            f"{where} is {json_type(document)}; a string or an object with text is accepted.",
            param=where,
        )
    if document.get("image") is None:
        return _text(where, document)
    image = document["image"]
    by_url = isinstance(image, str) and image.startswith(("http://", "https://"))
    if by_url and not limits.image_urls:
        raise InvalidRequest(
            f"{where}.image is a URL, which this service does not fetch; send a data URI.",
            param=f"{where}.image",
        )
    if not by_url and not (isinstance(image, str) and DATA_URI.match(image)):
        raise InvalidRequest(
            f"{where}.image must be a data URI (data:image/png;base64,…).", param=f"{where}.image"
        )
    caption = {"text": document.get("text") or ""}
    return ImageDocument(image, _text(where, {**document, **caption}))


def _text(where: str, document: Mapping[str, Any]) -> str:
    text = document.get("text")
    if not isinstance(text, str):
        found = json_type(text) if "text" in document else "missing"
        raise InvalidRequest(
            f"{where}.text is {found}; an object document needs a string there.",
            param=f"{where}.text",
        )
    if _depth_over(document, MAX_DOCUMENT_DEPTH):
        raise InvalidRequest(
            f"{where} is nested deeper than {MAX_DOCUMENT_DEPTH} levels.", param=where
        )
    return text


def _depth_over(value: Any, levels: int) -> bool:
    if isinstance(value, Mapping):
        value = value.values()
    elif not isinstance(value, list):
        return False
    return levels == 0 or any(_depth_over(v, levels - 1) for v in value)


def top(body: Mapping[str, Any], count: int, *names: str) -> int | None:
    """How many results are wanted, under any of `names`; None, or above `count`, means all."""
    wanted = {name: _positive(name, body[name]) for name in names if body.get(name) is not None}
    if len(set(wanted.values())) > 1:
        raise InvalidRequest(
            f"{' and '.join(wanted)} disagree. Send only one of them.", param=next(iter(wanted))
        )
    return min(next(iter(wanted.values())), count) if wanted else None


def _positive(name: str, value: Any) -> int:
    # JSON has one kind of number: 5.0 is an integer there, and some clients write it so.
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if isinstance(value, bool) or not whole or value < 1:
        shown = value if isinstance(value, (int, float)) else json_type(value)
        raise InvalidRequest(f"{name} must be a positive integer, not {shown}.", param=name)
    return int(value)


def flag(body: Mapping[str, Any], name: str, default: bool) -> bool:
    """A boolean; Xinference's clients send the strings "true" and "false"."""
    value = body.get(name)
    if value is None:
        return default
    if isinstance(value, str):
        value = {"true": True, "false": False}.get(value.lower(), value)
    if not isinstance(value, bool):
        raise InvalidRequest(f"{name} must be true or false, not {json_type(value)}.", param=name)
    return value


def model(body: Mapping[str, Any]) -> str | None:
    value = body.get("model")
    if value is None:
        return None
    if not isinstance(value, str):
        raise InvalidRequest(f"model must be a string, not {json_type(value)}.", param="model")
    if len(value) > MAX_MODEL_CHARS:
        raise InvalidRequest(
            f"model must have at most {MAX_MODEL_CHARS} characters.", param="model"
        )
    return value or None


def options(body: Mapping[str, Any]) -> ScoreOptions:
    """What the request asks of the scoring: instruction, max_tokens_per_doc, long_document."""
    limit = body.get("max_tokens_per_doc")
    return ScoreOptions(
        instruction=_instruction(body.get("instruction")),
        max_tokens_per_doc=None if limit is None else _positive("max_tokens_per_doc", limit),
        long_document=_long_document(body.get("long_document")),
        query_image=_query_image(body.get("query_image_url")),
        explain=flag(body, "explain", False),
    )


def _query_image(value: Any) -> str | None:
    """The image in place of a query. A URL is fetched by the model's provider, not here."""
    if value is None:
        return None
    is_image = isinstance(value, str) and (
        value.startswith(("http://", "https://")) or DATA_URI.match(value)
    )
    if not is_image or len(value) > MAX_IMAGE_CHARS:
        raise InvalidRequest(
            "query_image_url must be an http or https address, or a data URI "
            f"(data:image/png;base64,…) of at most {MAX_IMAGE_CHARS} characters.",
            param="query_image_url",
        )
    return str(value)


def _instruction(value: Any) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise InvalidRequest(
            f"instruction must be a string, not {json_type(value)}.", param="instruction"
        )
    if len(value) > MAX_INSTRUCTION_CHARS:
        raise InvalidRequest(
            f"instruction must have at most {MAX_INSTRUCTION_CHARS} characters.",
            param="instruction",
        )
    return well_formed(value)


def _long_document(value: Any) -> LongDocument | None:
    if value is None or value == "truncate" or value == "max_passage":
        mode: LongDocument | None = value
        return mode
    raise InvalidRequest("long_document must be truncate or max_passage.", param="long_document")


def explain(results: list[dict[str, Any]], result: RerankResult) -> None:
    """Put the reasons that were asked for beside the scores."""
    for entry, ranked in zip(results, result.results, strict=True):
        if ranked.explanation:
            entry["explanation"] = ranked.explanation


def warnings(result: RerankResult) -> list[str]:
    """What the client should know about a result that is otherwise good."""
    if not result.truncated:
        return []
    named = ", ".join(map(str, result.truncated[:_NAMED_INDICES]))
    more = ", …" if len(result.truncated) > _NAMED_INDICES else ""
    return [
        f"{len(result.truncated)} of the documents were longer than the model reads"
        f" and were cut (index {named}{more})."
    ]
