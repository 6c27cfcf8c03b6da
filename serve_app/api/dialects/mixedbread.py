"""`POST /v1/reranking` with `input`: Mixedbread's format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from serve_app.api.dialects import documents, fields, options, results
from serve_app.api.dialects.base import Dialect, Limits, dumps
from serve_app.errors import RerankError
from serve_app.types import RerankRequest, RerankResult


@dataclass(frozen=True, slots=True)
class Mixedbread:
    name: str = "mixedbread"

    def parse(self, body: Mapping[str, Any], limits: Limits) -> RerankRequest:
        query = fields.query(body, limits)
        texts, originals = documents.documents(body, limits, "input", ranked=True)
        # `rewrite_query` is ignored: queries are never rewritten.
        return RerankRequest(
            query=query,
            documents=texts,
            model=fields.model(body),
            top_n=fields.top(body, len(texts), "top_k"),
            return_documents=fields.flag(body, "return_input", False),
            originals=originals,
            options=options.options(body),
        )

    def render(self, result: RerankResult, request: RerankRequest) -> bytes:
        data = results.bare(result, request, "score")
        sent = request.originals or request.documents
        for hit in data:
            hit["object"] = "rank_result"
            if request.return_documents:
                hit["input"] = sent[hit["index"]]
        return dumps(
            {
                "object": "list",
                "model": result.model,
                "data": data,
                "top_k": request.top_n or len(request.documents),
                "return_input": request.return_documents,
                "usage": {"prompt_tokens": result.tokens, "total_tokens": result.tokens},
            }
        )

    def error(self, error: RerankError, request_id: str) -> bytes:
        return dumps({"detail": error.message, "code": error.code, "request_id": request_id})

    def status(self, error: RerankError) -> int:
        return error.status


MIXEDBREAD: Dialect = Mixedbread()
