"""The format that scores pairs."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from serve_app import errors
from serve_app.api.dialects.score import SCORE
from serve_app.errors import ScoringFailed
from tests.serve_app.api.dialects.fakes import DOCUMENTS, MANY_LIMITS, asked_many
from tests.serve_app.fakes import WordOverlap, answer, make_service


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
    answer = await asked_many(SCORE, {names[0]: left, names[1]: right, "model": "words"})
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
        await asked_many(SCORE, body)
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
        await answer(make_service(backend), SCORE, body, MANY_LIMITS)


async def test_scoring_pairs_rejects_a_pipeline_that_drops_documents(
    client: httpx.AsyncClient,
) -> None:
    refused = await client.post(
        "/score", json={"text_1": "q", "text_2": DOCUMENTS, "model": "both"}
    )
    assert refused.status_code == 400
    assert "does not keep all documents" in refused.json()["message"]
