"""`POST /v1/rerank` and `/v2/rerank`: Cohere's formats, which other servers adopted.

Clients of Jina, Xinference, vLLM and llama.cpp also use /v1/rerank. They all get the same
response, which contains the fields that each of them reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from serve_app.api.dialects import fields, options, results, voyage
from serve_app.api.dialects.base import Dialect, Limits, dumps
from serve_app.api.dialects.openai_errors import openai_error
from serve_app.errors import InvalidRequest, RerankError
from serve_app.types import RerankRequest, RerankResult

# Cohere bills one search unit per 100 documents, rounded up.
_DOCUMENTS_PER_UNIT = 100


@dataclass(frozen=True, slots=True)
class Cohere:
    """`returns`: the default of return_documents. `data`: also write Voyage's fields."""

    name: str
    version: str
    returns: bool = False
    data: bool = False

    def parse(self, body: Mapping[str, Any], limits: Limits) -> RerankRequest:
        if fields.flag(body, "return_embeddings", False):
            raise InvalidRequest(
                "this service returns scores, not embeddings; omit return_embeddings.",
                param="return_embeddings",
            )
        # Xinference's field; every response contains the token counts.
        fields.flag(body, "return_len", False)
        tops = ("top_n", "top_k") if self.data else ("top_n",)
        return options.request(body, limits, *tops, returns=self.returns)

    def render(self, result: RerankResult, request: RerankRequest) -> bytes:
        ranked = results.full(result, request)
        results.add_objects(ranked, request)
        meta: dict[str, Any] = {
            "api_version": {"version": self.version},
            "billed_units": {"search_units": -(-len(request.documents) // _DOCUMENTS_PER_UNIT)},
            "tokens": {"input_tokens": result.tokens, "output_tokens": 0},
            "cached_tokens": result.cached_tokens,
        }
        if warnings := fields.warnings(result):
            meta["warnings"] = warnings
        if result.pipeline is not None:
            meta["pipeline"] = results.report(result.pipeline)
        payload = {
            "id": result.id,
            "object": "list",
            "model": result.model,
            "results": ranked,
            "meta": meta,
            "usage": {"total_tokens": result.tokens, "prompt_tokens": result.tokens},
        }
        if self.data:
            payload["data"] = voyage.data(result, request)
        return dumps(payload)

    def error(self, error: RerankError, request_id: str) -> bytes:
        # Cohere's clients read `message` and `id`, Jina's read `detail`, those of vLLM and
        # llama.cpp `error`.
        return dumps(
            {
                "message": error.message,
                "detail": error.message,
                "id": request_id,
                "code": error.code,
                "error": openai_error(error, error.status),
            }
        )

    def status(self, error: RerankError) -> int:
        return error.status


V1: Dialect = Cohere("v1", "1")
V1_DATA: Dialect = Cohere("v1-voyage", "1", data=True)
V2: Dialect = Cohere("v2", "2")
# Jina and vLLM return documents by default.
JINA: Dialect = Cohere("jina", "1", returns=True)
VLLM_V1: Dialect = Cohere("vllm", "1", returns=True)
VLLM_V2: Dialect = Cohere("vllm", "2", returns=True)
