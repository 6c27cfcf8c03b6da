"""The native format."""

from __future__ import annotations

import json
import time

import pytest

from serve_app.api.dialects import NATIVE
from serve_app.errors import InvalidRequest
from tests.serve_app.api.dialects.fakes import LIMITS, asked, body, result_for


def test_native_accepts_top_k_and_rejects_a_different_top_n() -> None:
    assert NATIVE.parse(body(top_k=2), LIMITS).top_n == 2
    assert NATIVE.parse(body(top_k=2, top_n=2), LIMITS).top_n == 2
    with pytest.raises(InvalidRequest):
        NATIVE.parse(body(top_k=2, top_n=1), LIMITS)


def test_native_response() -> None:
    request = NATIVE.parse(body(documents=["a", {"text": ""}], unknown=1), LIMITS)
    result = result_for(request, tokens=7, truncated=(1,), timings_ms={"total": 1.23456})
    answer = json.loads(NATIVE.render(result, request))
    assert "index 1" in answer.pop("warnings")[0]
    assert abs(answer.pop("created") - time.time()) < 5
    assert answer == {
        "id": "r1",
        "object": "rerank",
        "model": "m",
        "results": [
            {"index": 0, "document": "a", "score": 0.5, "relevance_score": 0.5},
            {"index": 1, "document": "", "score": 0.5, "relevance_score": 0.5},
        ],
        "processing_time_ms": 1.235,
        "usage": {"prompt_tokens": 7, "total_tokens": 7},
    }


def test_native_returns_ids_and_metadata_unchanged() -> None:
    documents = [{"text": "a", "id": [7], "metadata": {"x": None}}, {"text": "b"}, "c"]
    body = {"query": "q", "documents": documents, "return_documents": False}
    first, second, third = asked(NATIVE, body)["results"]
    assert (first["id"], first["metadata"]) == ([7], {"x": None})
    assert {"id", "metadata", "document"}.isdisjoint({*second, *third})


def test_native_raw_scores_and_unsorted_results() -> None:
    body = {"query": "q", "documents": ["a"], "raw_scores": "true", "sort": False}
    assert asked(NATIVE, body)["results"][0]["score"] == 2.5
    assert not NATIVE.parse(body, LIMITS).sort
    vllm = {"query": "q", "documents": ["a"], "use_activation": False}
    assert NATIVE.parse(vllm, LIMITS).raw_scores
