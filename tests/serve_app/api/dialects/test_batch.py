"""The format with several queries per body."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from serve_app import errors
from serve_app.api.dialects import Limits
from serve_app.api.dialects.batch import BATCH
from tests.serve_app.api.dialects.fakes import CASCADE, DOCUMENTS, asked_many
from tests.serve_app.fakes import WordOverlap, answer, make_service


async def test_a_batch_ranks_shared_documents_or_those_of_the_query() -> None:
    queries = [
        "a b",
        {"query": "c", "documents": ["x", {"text": "c", "id": 9}], "top_k": 1, "id": "mine"},
        {"query": " "},
        {"query": "a", "model": "no-such"},
        7,
    ]
    answer = await asked_many(BATCH, {"queries": queries, "documents": ["b", "a b"], "top_n": 2})
    first, second, *wrong = answer["answers"]
    assert [hit["index"] for hit in first["results"]] == [1, 0]
    assert second["query_id"] == "mine"
    (hit,) = second["results"]
    assert (hit["index"], hit["id"], hit["document"]) == (1, 9, "c")
    assert [entry["status"] for entry in wrong] == [400, 404, 422]
    assert all(entry["error"]["message"] and "results" not in entry for entry in wrong)
    assert [entry["index"] for entry in answer["answers"]] == [0, 1, 2, 3, 4]
    assert answer["usage"]["total_tokens"] > 0


@pytest.mark.parametrize("queries", [None, [], "q", {}, ["q"] * 9, ["q"] * 5])
async def test_invalid_batches_are_rejected(queries: Any) -> None:
    with pytest.raises(errors.InvalidRequest):
        await asked_many(BATCH, {"queries": queries, "documents": ["a", "b"]})


async def test_a_large_batch_does_not_overfill_the_queue() -> None:
    service = make_service(WordOverlap(), max_parallel=4)
    body = {"queries": [f"q{i}" for i in range(40)], "documents": ["a"]}
    content, _ = await answer(service, BATCH, body, Limits())
    assert all("results" in entry for entry in json.loads(content)["answers"])


async def test_each_query_of_a_batch_runs_through_the_stages(client: httpx.AsyncClient) -> None:
    many = {"queries": ["a", "b"], "documents": DOCUMENTS, "pipeline": CASCADE}
    answers = (await client.post("/rerank/batch", json=many)).json()["answers"]
    assert [[hit["index"] for hit in a["results"]] for a in answers] == [[2, 1, 0]] * 2
