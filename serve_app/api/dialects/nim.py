"""`POST /v1/ranking`, `/v1/retrieval/{model}/reranking`: NVIDIA NIM's format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from serve_app.api.dialects import documents, fields, options, results
from serve_app.api.dialects.base import Dialect, Limits, dumps
from serve_app.api.dialects.openai_errors import error_type
from serve_app.errors import BadRequest, DocumentTooLong, RerankError
from serve_app.types import RerankRequest, RerankResult


@dataclass(frozen=True, slots=True)
class Nim:
    name: str = "nim"

    def parse(self, body: Mapping[str, Any], limits: Limits) -> RerankRequest:
        query = fields.query(body, limits)
        texts, originals = documents.documents(body, limits, "passages")
        cut = fields.choice(body, "truncate", {"none": False, "end": True})
        return RerankRequest(
            query=query,
            documents=texts,
            model=fields.model(body),
            top_n=fields.top(body, len(texts), "top_n", "top_k"),
            originals=originals,
            options=options.options(body),
            raw_scores=True,
            truncate=cut is not False,
        )

    def render(self, result: RerankResult, request: RerankRequest) -> bytes:
        return dumps(
            {
                "rankings": results.bare(result, request, "logit"),
                "model": result.model,
                "usage": {"prompt_tokens": result.tokens, "total_tokens": result.tokens},
            }
        )

    def error(self, error: RerankError, request_id: str) -> bytes:
        status = self.status(error)
        return dumps(
            {
                "object": "error",
                "message": error.message,
                "detail": error.message,
                "type": error_type(status),
                "code": error.code,
                "request_id": request_id,
            }
        )

    def status(self, error: RerankError) -> int:
        if isinstance(error, BadRequest):
            return 422  # NVIDIA's servers do not distinguish missing from invalid fields.
        return 400 if isinstance(error, DocumentTooLong) else error.status


NIM: Dialect = Nim()
