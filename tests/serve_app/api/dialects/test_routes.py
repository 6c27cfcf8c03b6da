"""Which dialect a body gets, for clients that share a path."""

from __future__ import annotations

from typing import Any

import pytest

from serve_app.api.dialects import ROUTES, default_for

QUERY: dict[str, Any] = {"query": "q", "documents": ["a"]}
COHERE = {**QUERY, "model": "rerank-v3.5"}


@pytest.mark.parametrize(
    ("path", "body", "name"),
    [
        ("/rerank", {**QUERY, "top_k": 1}, "native"),
        ("/rerank", {"query": "q", "texts": ["a"], "truncate": True}, "tei"),
        ("/rerank", {**QUERY, "texts": None}, "native"),
        ("/rerank", {**QUERY, "return_documents": False, "raw_scores": False}, "native"),
        ("/rerank", {**QUERY, "truncation": True, "top_k": None}, "voyage"),
        ("/reranking", {**QUERY, "top_n": 1}, "native"),
        ("/rerank/batch", {"queries": ["q"]}, "batch"),
        ("/v1/rerank", {**COHERE, "top_n": 1, "return_documents": True}, "v1"),
        ("/v1/rerank", {**COHERE, "return_documents": "true", "return_len": "true"}, "v1"),
        ("/v1/rerank", {**QUERY, "model": "jina-reranker-v2-base-multilingual"}, "jina"),
        ("/v1/rerank", {**QUERY, "max_doc_length": 9}, "jina"),
        ("/v1/rerank", {"query": "q", "documents": [{"image": "x"}]}, "jina"),
        ("/v1/rerank", {**QUERY, "top_k": 3}, "v1-voyage"),
        ("/v1/rerank", {**QUERY, "top_k": 3, "top_n": 3}, "v1"),
        ("/v1/rerank", {**QUERY, "truncation": True}, "v1-voyage"),
        ("/v1/rerank", {**QUERY, "truncate_prompt_tokens": -1}, "vllm"),
        ("/v1/rerank", {}, "v1"),
        ("/v1/reranking", COHERE, "v1"),
        ("/v1/reranking", {"query": "q", "input": ["a"]}, "mixedbread"),
        ("/sglang/v1/rerank", QUERY, "sglang"),
        ("/v2/rerank", {**COHERE, "max_tokens_per_doc": 4096}, "v2"),
        ("/v2/rerank", {**QUERY, "use_activation": False}, "vllm"),
        ("/score", {"text_1": "a", "text_2": "b"}, "score"),
        ("/v1/score", {"queries": "a", "documents": "b"}, "score"),
        ("/v1/ranking", {"query": {"text": "q"}, "passages": [{"text": "a"}]}, "nim"),
        ("/voyage/v1/rerank", QUERY, "voyage"),
        ("/vllm/rerank", QUERY, "vllm"),
    ],
)
def test_the_fields_of_the_body_determine_the_dialect(
    path: str, body: dict[str, Any], name: str
) -> None:
    assert ROUTES[path].choose(body).name == name


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/rerank", "native"),
        ("/nothing", "native"),
        ("/v1/nothing", "v1"),
        ("/v2/rerank", "v2"),
        ("/v1/retrieval/nvidia/some-model/reranking", "nim"),
        ("/score", "score"),
    ],
)
def test_the_path_determines_the_dialect_of_errors(path: str, name: str) -> None:
    assert default_for(path).name == name
