"""`POST /sglang/v1/rerank`: SGLang's format, a bare list of results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from serve_app.api.dialects import options, results
from serve_app.api.dialects.base import Dialect, Limits, dumps
from serve_app.api.dialects.openai_errors import openai_error
from serve_app.errors import InvalidRequest, RerankError
from serve_app.types import RerankRequest, RerankResult


@dataclass(frozen=True, slots=True)
class SGLang:
    name: str = "sglang"

    def parse(self, body: Mapping[str, Any], limits: Limits) -> RerankRequest:
        return options.request(body, limits, "top_n", returns=True)

    def render(self, result: RerankResult, request: RerankRequest) -> bytes:
        answers = results.bare(result, request, "score")
        texts = results.as_text(request)
        meta = {"id": result.id, "prompt_tokens": result.tokens}
        for answer in answers:
            answer["meta_info"] = meta
            if request.return_documents:
                answer["document"] = texts[answer["index"]]
        return dumps(answers)

    def error(self, error: RerankError, request_id: str) -> bytes:
        fault = openai_error(error, self.status(error))
        return dumps({"object": "error", **fault, "request_id": request_id})

    def status(self, error: RerankError) -> int:
        return 400 if isinstance(error, InvalidRequest) else error.status


SGLANG: Dialect = SGLang()
