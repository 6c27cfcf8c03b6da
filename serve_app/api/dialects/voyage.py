"""`POST /voyage/v1/rerank`: Voyage's format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from serve_app.api.dialects import documents, fields, options, results
from serve_app.api.dialects.base import Dialect, Limits, dumps
from serve_app.errors import InvalidRequest, RerankError
from serve_app.types import RerankRequest, RerankResult


@dataclass(frozen=True, slots=True)
class Voyage:
    name: str = "voyage"

    def parse(self, body: Mapping[str, Any], limits: Limits) -> RerankRequest:
        query = fields.query(body, limits)
        texts = documents.texts(body, limits, "documents")
        return RerankRequest(
            query=query,
            documents=texts,
            model=fields.model(body),
            top_n=fields.top(body, len(texts), "top_k"),
            return_documents=fields.flag(body, "return_documents", False),
            options=options.options(body),
            truncate=fields.flag(body, "truncation", True),
        )

    def render(self, result: RerankResult, request: RerankRequest) -> bytes:
        payload: dict[str, Any] = {
            "object": "list",
            "data": data(result, request),
            "model": result.model,
            "usage": {"total_tokens": result.tokens},
        }
        if warnings := fields.warnings(result):
            payload["warnings"] = warnings
        return dumps(payload)

    def error(self, error: RerankError, request_id: str) -> bytes:
        return dumps({"detail": error.message, "code": error.code, "request_id": request_id})

    def status(self, error: RerankError) -> int:
        """Voyage uses 400 for an invalid request, and 422 for a malformed body."""
        return 400 if isinstance(error, InvalidRequest) else error.status


def data(result: RerankResult, request: RerankRequest) -> results.Hits:
    """Return Voyage's results, with documents as strings, as sent."""
    found = results.bare(result, request, "relevance_score")
    results.add_objects(found, request, objects=False)
    return found


VOYAGE: Dialect = Voyage()
