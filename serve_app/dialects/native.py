"""`POST /rerank`: this service's own format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from serve_app.dialects import fields
from serve_app.dialects.base import Dialect, Limits, dumps
from serve_app.errors import RerankError
from serve_app.types import RerankRequest, RerankResult


@dataclass(frozen=True, slots=True)
class Native:
    name: str = "native"

    def parse(self, body: Mapping[str, Any], limits: Limits) -> RerankRequest:
        query = fields.query(body, limits)
        texts, originals = fields.documents(body, limits)
        return RerankRequest(
            query=query,
            documents=texts,
            model=fields.model(body),
            top_n=fields.top(body, len(texts), "top_k", "top_n"),
            return_documents=fields.flag(body, "return_documents", True),
            originals=originals,
            options=fields.options(body),
        )

    def render(self, result: RerankResult, request: RerankRequest) -> bytes:
        texts: Sequence[Any] = request.documents
        if request.originals is not None:
            # An object with text comes back as its text, an image as it was sent.
            pairs = zip(request.documents, request.originals, strict=True)
            texts = [d if isinstance(d, str) else sent for d, sent in pairs]
        results: list[dict[str, Any]]
        if request.return_documents:
            results = [
                {
                    "index": r.index,
                    "document": texts[r.index],
                    "score": r.relevance_score,
                    "relevance_score": r.relevance_score,
                }
                for r in result.results
            ]
        else:
            results = [
                {
                    "index": r.index,
                    "score": r.relevance_score,
                    "relevance_score": r.relevance_score,
                }
                for r in result.results
            ]
        for entry in results if result.passages else ():
            entry["passages"] = result.passages.get(entry["index"], 1)
        fields.explain(results, result)
        payload: dict[str, Any] = {
            "id": result.id,
            "model": result.model,
            "results": results,
            "processing_time_ms": round(result.timings_ms.get("total", 0.0), 3),
            "usage": {"total_tokens": result.tokens},
        }
        if warnings := fields.warnings(result):
            payload["warnings"] = warnings
        return dumps(payload)

    def error(self, error: RerankError, request_id: str) -> bytes:
        detail = {"code": error.code, "message": error.message, "param": error.param}
        return dumps({"error": detail, "request_id": request_id})


NATIVE: Dialect = Native()
