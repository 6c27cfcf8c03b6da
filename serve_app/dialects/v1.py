"""`POST /v1/rerank`: one answer that Cohere v1, Jina, Xinference and vLLM clients all read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from serve_app.dialects import fields
from serve_app.dialects.base import Dialect, Limits, dumps
from serve_app.errors import RerankError
from serve_app.types import RerankRequest, RerankResult

# Cohere bills one search unit per started hundred documents.
_DOCUMENTS_PER_UNIT = 100


@dataclass(frozen=True, slots=True)
class CohereV1:
    name: str = "v1"

    def parse(self, body: Mapping[str, Any], limits: Limits) -> RerankRequest:
        query = fields.query(body, limits)
        texts, originals = fields.documents(body, limits)
        return RerankRequest(
            query=query,
            documents=texts,
            model=fields.model(body),
            top_n=fields.top(body, len(texts), "top_n"),
            return_documents=fields.flag(body, "return_documents", False),
            originals=originals,
            options=fields.options(body),
        )

    def render(self, result: RerankResult, request: RerankRequest) -> bytes:
        results: list[dict[str, Any]] = [
            {"index": r.index, "relevance_score": r.relevance_score} for r in result.results
        ]
        if request.return_documents:
            sent = request.originals or request.documents
            for entry in results:
                document = sent[entry["index"]]
                entry["document"] = {"text": document} if isinstance(document, str) else document
        for entry in results if result.passages else ():
            entry["passages"] = result.passages.get(entry["index"], 1)
        fields.explain(results, result)
        meta: dict[str, Any] = {
            "api_version": {"version": "1"},
            "billed_units": {"search_units": -(-len(request.documents) // _DOCUMENTS_PER_UNIT)},
            "tokens": {"input_tokens": result.tokens},
            "cached_tokens": result.cached_tokens,
        }
        if warnings := fields.warnings(result):
            meta["warnings"] = warnings
        return dumps(
            {
                "id": result.id,
                "model": result.model,
                "results": results,
                "meta": meta,
                "usage": {"total_tokens": result.tokens, "prompt_tokens": result.tokens},
            }
        )

    def error(self, error: RerankError, request_id: str) -> bytes:
        # Cohere's clients read `message` and `id`; Jina's read `detail`.
        return dumps(
            {
                "message": error.message,
                "detail": error.message,
                "id": request_id,
                "code": error.code,
            }
        )


V1: Dialect = CohereV1()
