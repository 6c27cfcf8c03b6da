"""Parse a request's options for scoring and for the response."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError

from models.text import well_formed
from models.types import LongDocument, ScoreOptions
from serve_app.api.dialects import documents, fields
from serve_app.api.dialects.base import Limits, json_type
from serve_app.errors import InvalidRequest
from serve_app.pipeline_spec import Pipeline, problem
from serve_app.request_options import OPTIONS, Choice, Flag, Image, Integer, Kind, Text
from serve_app.types import RerankRequest, SpanOptions

ParseDocuments = Callable[[Mapping[str, Any], Limits], documents.Parsed]


def ranked_documents(body: Mapping[str, Any], limits: Limits) -> documents.Parsed:
    return documents.documents(body, limits, ranked=True)


def request(
    body: Mapping[str, Any],
    limits: Limits,
    *tops: str,
    returns: bool,
    parse_documents: ParseDocuments = ranked_documents,
) -> RerankRequest:
    """Parse a body of a format whose fields are named `query` and `documents`.

    `tops`: names of the field for the maximum number of results. `returns`: default of
    return_documents.
    """
    query = fields.query(body, limits)
    texts, originals = parse_documents(body, limits)
    return RerankRequest(
        query=query,
        documents=texts,
        model=fields.model(body),
        top_n=fields.top(body, len(texts), *tops),
        return_documents=fields.flag(body, "return_documents", returns),
        originals=originals,
        options=options(body),
        priority=priority(body),
        relevant_spans=spans(body),
        sort=read(body, "sort"),
        raw_scores=raw_scores(body),
        truncate=fields.flag(body, "truncation", True) and read(body, "truncate"),
        pipeline=pipeline(body),
        budget_ms=read(body, "budget_ms"),
    )


def options(body: Mapping[str, Any]) -> ScoreOptions:
    """Parse every option of ScoreOptions, under any of its names."""
    found = {
        option.attribute: read(body, name) for name, option in OPTIONS.items() if option.attribute
    }
    if found["instruction"] is not None:
        found["instruction"] = well_formed(found["instruction"])
    return ScoreOptions(**{**found, "long_document": _long_document(body, found["long_document"])})


def read(body: Mapping[str, Any], name: str) -> Any:
    """Parse one option under any of its names; if unset, return a flag's default or None.

    If several names are sent, the lowest integer or the first other value is used. Raises
    InvalidRequest that names the invalid field.
    """
    option = OPTIONS[name]
    if isinstance(option.kind, Flag):
        return fields.flag(body, name, option.kind.default)
    names = {name: None} | {alias: alone.unset for alias, alone in option.aliases.items()}
    sent = {
        name: body[name] for name, unset in names.items() if body.get(name) not in (None, unset)
    }
    values = [_parse(option.kind, name, value) for name, value in sent.items()]
    given = [value for value in values if value is not None]
    if isinstance(option.kind, Integer):
        return min(given, default=None)
    return given[0] if given else None


def _parse(kind: Kind, name: str, value: Any) -> Any:
    match kind:
        case Integer(at_least, at_most):
            what = "a positive integer" if at_least else f"an integer from 0 to {at_most}"
            return fields.whole(name, value, at_least=at_least, at_most=at_most, what=what)
        case Text(max_chars):
            return _text(name, value, max_chars)
        case Image(max_chars):
            return _image(name, value, max_chars)
        case Choice(words):
            if value not in words:
                raise InvalidRequest(f"{name} must be {' or '.join(words)}.", param=name)
            return value


def priority(body: Mapping[str, Any]) -> int:
    return read(body, "priority") or 0


def spans(body: Mapping[str, Any]) -> SpanOptions | None:
    """Return None if relevant spans are not requested, or disabled."""
    value = body.get("relevant_spans")
    if value is None:
        return None
    if not isinstance(value, Mapping) or value.get("mode") not in ("enabled", "disabled"):
        raise InvalidRequest(
            "relevant_spans must be an object whose mode is enabled or disabled.",
            param="relevant_spans",
        )
    threshold, most = value.get("threshold"), value.get("max_spans")
    if threshold is None:
        threshold = SpanOptions().threshold
    number = isinstance(threshold, (int, float)) and not isinstance(threshold, bool)
    if not number or not 0 <= threshold <= 1:
        raise InvalidRequest(
            "relevant_spans.threshold must be a number from 0 to 1.",
            param="relevant_spans.threshold",
        )
    if most is not None:
        most = fields.positive("relevant_spans.max_spans", most)
    return SpanOptions(float(threshold), most) if value["mode"] == "enabled" else None


def raw_scores(body: Mapping[str, Any]) -> bool:
    """Whether logits are requested: by Infinity's and TEI's field, or by negating vLLM's."""
    activation = [
        fields.flag(body, name, True) for name in ("use_activation", "activation", "softmax")
    ]
    return read(body, "raw_scores") or not all(activation)


def _image(name: str, value: Any, max_chars: int) -> str:
    """Return the address of an image. The model's provider fetches a URL."""
    is_image = isinstance(value, str) and (
        value.startswith(("http://", "https://")) or documents.is_data_uri(value)
    )
    if not is_image or len(value) > max_chars:
        raise InvalidRequest(
            f"{name} must be an http or https address, or a data URI "
            f"(data:image/png;base64,…) of at most {max_chars} characters.",
            param=name,
        )
    return str(value)


def _text(name: str, value: Any, max_chars: int) -> str | None:
    if not isinstance(value, str):
        raise InvalidRequest(f"{name} must be a string, not {json_type(value)}.", param=name)
    if len(value) > max_chars:
        raise InvalidRequest(f"{name} must have at most {max_chars} characters.", param=name)
    return value or None


def _long_document(body: Mapping[str, Any], wanted: LongDocument | None) -> LongDocument | None:
    """Return the option, or its equivalent of max_chunks_per_doc (Cohere's older models)."""
    chunks = body.get("max_chunks_per_doc")
    if chunks is not None:
        chunks = fields.positive("max_chunks_per_doc", chunks)
    if wanted is None and chunks is not None:
        # Those models score a document by its best chunk; one chunk means truncation.
        return "truncate" if chunks == 1 else "max_passage"
    return wanted


def pipeline(body: Mapping[str, Any]) -> Pipeline | None:
    """Return the body's pipeline, if any. Raises InvalidRequest that names the invalid field."""
    stages = body.get("pipeline")
    if stages is None:
        return None
    if body.get("model"):
        raise InvalidRequest(
            "send either model or pipeline: the stages name the models.", param="pipeline"
        )
    try:
        return Pipeline(stages=stages)
    except ValidationError as error:
        where, message = problem(error)
        param = f"pipeline.{where}" if where else "pipeline"
        raise InvalidRequest(f"{param}: {message}.", param=param) from None
