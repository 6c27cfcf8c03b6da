"""The formats with several queries per body."""

from __future__ import annotations

import json
from typing import Any

import pytest

from serve_app import errors
from serve_app.api.dialects import Limits, ManyDialect
from serve_app.api.dialects.batch import BATCH
from serve_app.api.dialects.score import SCORE
from serve_app.errors import ScoringFailed
from tests.serve_app.fakes import WordOverlap, answer, make_service

LIMITS = Limits(max_documents=8)


async def asked(dialect: ManyDialect, body: dict[str, Any]) -> Any:
    content, _ = await answer(make_service(WordOverlap()), dialect, body, LIMITS)
    return json.loads(content)


@pytest.mark.parametrize(
    ("left", "right", "scores"),
    [
        ("a b", "a", [1]),
        ("a b", ["a", "a b", "c"], [1, 2, 0]),
        (["a b"], ["c", "a"], [0, 1]),
        (["a", "b"], ["b", "b"], [0, 1]),
        (["a", "b", "a"], ["a", "a", "b"], [1, 0, 0]),
        (["a b", "a b"], ["c", "a"], [0, 1]),
    ],
)
@pytest.mark.parametrize(
    "names", [("text_1", "text_2"), ("queries", "documents"), ("queries", "items")]
)
async def test_pairs_are_scored_in_order(
    names: tuple[str, str], left: Any, right: Any, scores: list[float]
) -> None:
    answer = await asked(SCORE, {names[0]: left, names[1]: right, "model": "words"})
    assert [entry["score"] for entry in answer["data"]] == scores
    assert [entry["index"] for entry in answer["data"]] == list(range(len(scores)))
    assert {entry["object"] for entry in answer["data"]} == {"score"}
    assert answer["object"] == "list"
    assert answer["model"] == "words"
    assert answer["usage"]["total_tokens"] > 0


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"text_1": "a"},
        {"text_1": "a", "text_2": []},
        {"text_1": [], "text_2": ["a"]},
        {"text_1": ["a", "b"], "text_2": ["c"]},
        {"text_1": ["a", "b"], "text_2": ["c", "d", "e"]},
        {"text_1": " ", "text_2": "a"},
        {"text_1": [1], "text_2": "a"},
        {"text_1": "a", "text_2": [1]},
        {"text_1": "a", "text_2": ["b"] * 9},
    ],
)
async def test_invalid_pairs_are_rejected(body: dict[str, Any]) -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        await asked(SCORE, body)
    assert SCORE.status(caught.value) == 400
    answer = json.loads(SCORE.error(caught.value, "i"))
    assert answer["object"] == "error"
    assert answer["message"] == answer["error"]["message"]
    assert answer["error"]["type"] == "BadRequestError"


async def test_one_failing_pair_fails_the_request() -> None:
    backend = WordOverlap()
    backend.failures = [ScoringFailed("no")] * 4
    body = {"text_1": ["a", "b"], "text_2": ["a", "b"]}
    with pytest.raises(ScoringFailed):
        await answer(make_service(backend), SCORE, body, LIMITS)


async def test_a_batch_ranks_shared_documents_or_those_of_the_query() -> None:
    queries = [
        "a b",
        {"query": "c", "documents": ["x", {"text": "c", "id": 9}], "top_k": 1, "id": "mine"},
        {"query": " "},
        {"query": "a", "model": "no-such"},
        7,
    ]
    answer = await asked(BATCH, {"queries": queries, "documents": ["b", "a b"], "top_n": 2})
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
        await asked(BATCH, {"queries": queries, "documents": ["a", "b"]})


async def test_a_large_batch_does_not_overfill_the_queue() -> None:
    service = make_service(WordOverlap(), max_parallel=4)
    body = {"queries": [f"q{i}" for i in range(40)], "documents": ["a"]}
    content, _ = await answer(service, BATCH, body, Limits())
    assert all("results" in entry for entry in json.loads(content)["answers"])
