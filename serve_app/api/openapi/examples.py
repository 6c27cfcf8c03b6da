"""Example requests and responses for each format."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

_QUERY = "What is the capital of France?"
_TEXTS = ["Berlin is the capital of Germany.", "Paris is the capital of France."]
_SCORES = [(1, 0.998), (0, 0.021)]
_USAGE = {"total_tokens": 34, "prompt_tokens": 34}

REQUESTS: dict[str, Json] = {
    "Native": {"query": _QUERY, "documents": _TEXTS, "top_k": 2},
    "V1": {"query": _QUERY, "documents": _TEXTS, "top_n": 2, "return_documents": True},
    "Voyage": {"query": _QUERY, "documents": _TEXTS, "model": "rerank-2.5", "top_k": 2},
    "Tei": {"query": _QUERY, "texts": _TEXTS, "raw_scores": False},
    "Sglang": {"query": _QUERY, "documents": _TEXTS, "top_n": 2},
    "Nim": {"query": {"text": _QUERY}, "passages": [{"text": text} for text in _TEXTS]},
    "Score": {"text_1": _QUERY, "text_2": _TEXTS},
    "Batch": {"queries": [_QUERY, {"query": "And of Germany?"}], "documents": _TEXTS},
}

_NATIVE: Json = {
    "id": "0b5e…",
    "object": "rerank",
    "created": 1760000000,
    "model": "default",
    "results": [
        {"index": i, "document": _TEXTS[i], "score": s, "relevance_score": s} for i, s in _SCORES
    ],
    "processing_time_ms": 12.5,
    "usage": _USAGE,
}

ANSWERS: dict[str, Any] = {
    "Native": _NATIVE,
    "V1": {
        "id": "0b5e…",
        "object": "list",
        "model": "default",
        "results": [
            {"index": i, "relevance_score": s, "document": {"text": _TEXTS[i]}} for i, s in _SCORES
        ],
        "meta": {
            "api_version": {"version": "1"},
            "billed_units": {"search_units": 1},
            "tokens": {"input_tokens": 34, "output_tokens": 0},
            "cached_tokens": 0,
        },
        "usage": _USAGE,
    },
    "Voyage": {
        "object": "list",
        "data": [{"index": i, "relevance_score": s} for i, s in _SCORES],
        "model": "default",
        "usage": {"total_tokens": 34},
    },
    "Tei": [{"index": i, "score": s} for i, s in _SCORES],
    "Sglang": [
        {"index": i, "score": s, "document": _TEXTS[i], "meta_info": {"id": "0b5e…"}}
        for i, s in _SCORES
    ],
    "Nim": {"rankings": [{"index": 1, "logit": 6.2}, {"index": 0, "logit": -3.8}]},
    "Score": {
        "id": "score-0b5e…",
        "object": "list",
        "created": 1760000000,
        "model": "default",
        "data": [{"index": i, "object": "score", "score": s} for i, s in sorted(_SCORES)],
        "usage": _USAGE,
    },
    "Batch": {
        "object": "list",
        "answers": [
            {"index": 0, **_NATIVE},
            {
                "index": 1,
                "status": 422,
                "error": {
                    "code": "invalid_request",
                    "message": "top_n must be a positive integer, not 0.",
                    "param": "top_n",
                    "type": "BadRequestError",
                },
            },
        ],
        "usage": _USAGE,
    },
}
