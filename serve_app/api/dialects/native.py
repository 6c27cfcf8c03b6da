"""`POST /rerank`: this service's own format, compatible with clients of Infinity and llama.cpp."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from serve_app.api.dialects import fields, options, results
from serve_app.api.dialects.base import Dialect, Limits, dumps
from serve_app.api.dialects.openai_errors import error_type
from serve_app.errors import RerankError
from serve_app.types import RerankRequest, RerankResult

# Fields of object documents that are returned with the score.
RETURNED = ("id", "metadata")


@dataclass(frozen=True, slots=True)
class Native:
    name: str = "native"

    def parse(self, body: Mapping[str, Any], limits: Limits) -> RerankRequest:
        return parse(body, limits)

    def render(self, result: RerankResult, request: RerankRequest) -> bytes:
        return dumps(payload(result, request))

    def error(self, error: RerankError, request_id: str) -> bytes:
        return dumps({"error": error_object(error), "request_id": request_id})

    def status(self, error: RerankError) -> int:
        return error.status


def parse(
    body: Mapping[str, Any],
    limits: Limits,
    parse_documents: options.ParseDocuments = options.ranked_documents,
) -> RerankRequest:
    return options.request(
        body, limits, "top_k", "top_n", returns=True, parse_documents=parse_documents
    )


def payload(result: RerankResult, request: RerankRequest) -> dict[str, Any]:
    """Return the response to one query."""
    hits = results.full(result, request, "score")
    for hit, ranked in zip(hits, result.results, strict=True):
        hit["relevance_score"] = hit["score"]
        if ranked.stages:
            hit["stages"] = {
                name: {"score": stage.score, "rank": stage.rank}
                for name, stage in ranked.stages.items()
            }
    if request.return_documents:
        texts = results.as_text(request)
        for hit in hits:
            hit["document"] = texts[hit["index"]]
    for hit in hits if request.originals else ():
        _add_returned(hit, (request.originals or ())[hit["index"]])
    answer: dict[str, Any] = {
        "id": result.id,
        "object": "rerank",
        "created": int(time.time()),
        "model": result.model,
        "results": hits,
        "processing_time_ms": round(result.timings_ms.get("total", 0.0), 3),
        "usage": {"prompt_tokens": result.tokens, "total_tokens": result.tokens},
    }
    if warnings := fields.warnings(result):
        answer["warnings"] = warnings
    if result.pipeline is not None:
        answer["pipeline"] = results.report(result.pipeline)
    return answer


def _add_returned(hit: dict[str, Any], sent: Any) -> None:
    if isinstance(sent, Mapping):
        hit.update({name: sent[name] for name in RETURNED if name in sent})


def error_object(error: RerankError) -> dict[str, Any]:
    return {
        "code": error.code,
        "message": error.message,
        "param": error.param,
        "type": error_type(error.status),
    }


NATIVE: Dialect = Native()
