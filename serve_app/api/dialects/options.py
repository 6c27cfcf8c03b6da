"""Parse a request's options for scoring and for the response."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from models.images import DATA_URI
from models.text import well_formed
from models.types import LongDocument, ScoreOptions
from serve_app.api.dialects import documents, fields
from serve_app.api.dialects.base import Limits, json_type
from serve_app.errors import InvalidRequest
from serve_app.pipeline_spec import Pipeline, problem
from serve_app.types import RerankRequest, SpanOptions

MAX_INSTRUCTION_CHARS = 4096
MAX_IMAGE_CHARS = 10 * 2**20
MAX_PRIORITY = 999
# max_tokens_per_doc and its names in other servers: Jina's, and vLLM's, which limits the pair.
_LIMITS = ("max_tokens_per_doc", "max_doc_length", "truncate_prompt_tokens")


def request(body: Mapping[str, Any], limits: Limits, *tops: str, returns: bool) -> RerankRequest:
    """Parse a body of a format whose fields are named `query` and `documents`.

    `tops`: names of the field for the maximum number of results. `returns`: default of
    return_documents.
    """
    query = fields.query(body, limits)
    texts, originals = documents.documents(body, limits, ranked=True)
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
        sort=fields.flag(body, "sort", True),
        raw_scores=raw_scores(body),
        truncate=fields.flag(body, "truncation", True) and fields.flag(body, "truncate", True),
        pipeline=pipeline(body),
        budget_ms=budget_ms(body),
    )


def options(body: Mapping[str, Any]) -> ScoreOptions:
    """Parse how to score: instruction, document length and explanations."""
    wanted = [
        fields.positive(name, body[name])
        for name in _LIMITS
        # vLLM's -1 means the model's maximum.
        if body.get(name) is not None and (name, body[name]) != ("truncate_prompt_tokens", -1)
    ]
    return ScoreOptions(
        # SGLang's name is `instruct`.
        instruction=_instruction(body.get("instruction") or body.get("instruct")),
        max_tokens_per_doc=min(wanted) if wanted else None,
        long_document=_long_document(body),
        query_image=_query_image(body.get("query_image_url")),
        explain=fields.flag(body, "explain", False),
    )


def priority(body: Mapping[str, Any]) -> int:
    if body.get("priority") is None:
        return 0
    what = f"an integer from 0 to {MAX_PRIORITY}"
    return fields.whole("priority", body["priority"], at_least=0, at_most=MAX_PRIORITY, what=what)


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
    return fields.flag(body, "raw_scores", False) or not all(activation)


def _query_image(value: Any) -> str | None:
    """Return the image that replaces the query. The model's provider fetches a URL."""
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


def _long_document(body: Mapping[str, Any]) -> LongDocument | None:
    value = body.get("long_document")
    chunks = body.get("max_chunks_per_doc")
    if chunks is not None:
        chunks = fields.positive("max_chunks_per_doc", chunks)
    if value is None and chunks is not None:
        # Cohere's older models score a document by its best chunk; one chunk means truncation.
        return "truncate" if chunks == 1 else "max_passage"
    if value is None or value == "truncate" or value == "max_passage":
        mode: LongDocument | None = value
        return mode
    raise InvalidRequest("long_document must be truncate or max_passage.", param="long_document")


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


def budget_ms(body: Mapping[str, Any]) -> int | None:
    """Return the budget in milliseconds from the request's arrival, if any."""
    if body.get("budget_ms") is None:
        return None
    return fields.positive("budget_ms", body["budget_ms"])
