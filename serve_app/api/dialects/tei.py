"""`POST /rerank` with `texts`, `GET /info`: Text Embeddings Inference's format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from serve_app.api.dialects import documents, fields, options, results
from serve_app.api.dialects.base import Dialect, Limits, dumps
from serve_app.errors import RerankError
from serve_app.types import RerankRequest, RerankResult

# Status and error_type of the codes for which TEI's differ from ours.
_PROBLEMS: Mapping[str, tuple[int, str]] = {
    "too_many_documents": (413, "Validation"),
    "document_too_long": (413, "Validation"),
    "queue_timeout": (429, "Overloaded"),
    "deadline_exceeded": (424, "Backend"),
    "scoring_failed": (424, "Backend"),
    "upstream_failed": (424, "Backend"),
    "upstream_timeout": (424, "Backend"),
}


@dataclass(frozen=True, slots=True)
class TextEmbeddingsInference:
    name: str = "tei"

    def parse(self, body: Mapping[str, Any], limits: Limits) -> RerankRequest:
        query = fields.query(body, limits)
        texts = documents.texts(body, limits, "texts")
        from_left = fields.choice(body, "truncation_direction", {"right": False, "left": True})
        return RerankRequest(
            query=query,
            documents=texts,
            model=fields.model(body),
            # Not one of TEI's fields, but LiteLLM sends it, and llama.cpp accepts it.
            top_n=fields.top(body, len(texts), "top_n"),
            return_documents=fields.flag(body, "return_text", False),
            options=options.options(body),
            raw_scores=fields.flag(body, "raw_scores", False),
            # Truncating on the left is not supported, so reject documents that are too long.
            truncate=fields.flag(body, "truncate", True) and not from_left,
        )

    def render(self, result: RerankResult, request: RerankRequest) -> bytes:
        ranks = results.bare(result, request, "score")
        if request.return_documents:
            for rank in ranks:
                rank["text"] = request.documents[rank["index"]]
        return dumps(ranks)

    def error(self, error: RerankError, request_id: str) -> bytes:
        return dumps({"error": error.message, "error_type": _problem(error)[1]})

    def status(self, error: RerankError) -> int:
        return _problem(error)[0]


def _problem(error: RerankError) -> tuple[int, str]:
    if error.code == "invalid_request":
        return (400, "Empty") if error.status == 400 else (422, "Validation")
    unnamed = {429: "Overloaded", 503: "Unhealthy"}
    kind = "Validation" if error.status < 500 else "Backend"
    return _PROBLEMS.get(error.code, (error.status, unnamed.get(error.status, kind)))


def info(
    health: Mapping[str, Any], limits: Limits, version: str, *, show_source: bool = True
) -> dict[str, Any]:
    """Return TEI's /info for the default model.

    `show_source`: identify it by its source, which may be a path, instead of its name.
    """
    name = health["default_model"]
    model = health["models"].get(name, {})
    return {
        "model_id": model.get("source", name) if show_source else name,
        "model_sha": model.get("revision"),
        "model_dtype": model.get("dtype", "unknown"),
        "model_type": {"reranker": {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}},
        "max_concurrent_requests": health["controller"]["max_parallel"],
        "max_input_length": model.get("max_length", 0),
        "max_batch_tokens": model.get("token_budget", 0),
        "max_batch_requests": None,
        "max_client_batch_size": limits.max_documents,
        "auto_truncate": True,
        "tokenization_workers": 1,
        "version": version,
        "sha": None,
        "docker_label": None,
    }


TEI: Dialect = TextEmbeddingsInference()
