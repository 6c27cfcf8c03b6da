"""The format with several queries per body."""

from __future__ import annotations

import json
from contextlib import nullcontext
from typing import Any

import httpx
import pytest

from serve_app import errors
from serve_app.api.dialects import Limits
from serve_app.api.dialects.batch import BATCH
from serve_app.errors import InvalidRequest
from serve_app.types import RerankRequest
from tests.serve_app.api.dialects.fakes import CASCADE, DOCUMENTS, asked_many
from tests.serve_app.fakes import WordOverlap, answer, make_service


class Counted(dict[str, Any]):
    """A document that counts how often its fields are read."""

    reads = 0

    def get(self, name: str, default: Any = None) -> Any:
        Counted.reads += 1
        return super().get(name, default)


def parsed(**body: Any) -> list[RerankRequest]:
    calls = BATCH.parse_all(body, Limits())
    assert all(isinstance(call, RerankRequest) for call in calls)
    return [call for call in calls if isinstance(call, RerankRequest)]


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


@pytest.mark.parametrize("queries", [["q"] * 100, [{"query": "q"}] * 100])
@pytest.mark.parametrize("wrong", [[], [1]])
def test_shared_documents_are_parsed_once(
    monkeypatch: pytest.MonkeyPatch, queries: list[Any], wrong: list[Any]
) -> None:
    monkeypatch.setattr(Counted, "reads", 0)
    documents = [Counted(text="a") for _ in range(20)]
    BATCH.parse_all({"queries": queries[:1], "documents": documents + wrong}, Limits())
    once = Counted.reads
    calls = BATCH.parse_all({"queries": queries, "documents": documents + wrong}, Limits())
    assert 0 < Counted.reads == 2 * once
    assert len(calls) == 100
    assert all(isinstance(call, InvalidRequest if wrong else RerankRequest) for call in calls)


def test_queries_share_the_texts_that_rank_fields_make() -> None:
    body = {"documents": [{"a": "x" * 1000, "b": "y"}], "rank_fields": ["a", "b"], "top_k": 1}
    queries = ["q", {"query": "r"}, {"query": "s", "rank_fields": ["b"]}]
    q, r, s = parsed(queries=queries, return_documents=False, **body)
    assert q.documents is r.documents
    assert q.originals is r.originals
    assert (q.documents, s.documents) == (("x" * 1000 + "\ny",), ("y",))
    assert (q.query, r.query, s.query) == ("q", "r", "s")


def test_a_query_overrides_fields_of_the_body_also_with_null() -> None:
    queries = [{"query": "q", "documents": None}, {"query": "q", "top_k": 1}, {"query": "q"}]
    calls = BATCH.parse_all({"queries": queries, "documents": ["a", "b"], "top_n": 2}, Limits())
    assert isinstance(calls[0], InvalidRequest)
    tops = [call.top_n for call in calls if isinstance(call, RerankRequest)]
    assert tops == [1, 2]


def test_the_error_in_a_query_comes_before_that_in_the_shared_fields() -> None:
    blank, other = BATCH.parse_all({"queries": [" ", "q"], "documents": [1]}, Limits())
    assert isinstance(blank, InvalidRequest)
    assert isinstance(other, InvalidRequest)
    assert (blank.param, other.param) == ("query", "documents[0]")


def test_the_work_for_other_rank_fields_is_bounded() -> None:
    documents = [{"a": "x" * 1000, **{f"f{i}": "y" for i in range(100)}}]
    queries = [{"query": "q", "rank_fields": ["a", f"f{i}"]} for i in range(100)]
    body = {"queries": queries, "documents": documents, "return_documents": False}
    calls = BATCH.parse_all(body, Limits(max_body_bytes=20_000))
    assert sum(isinstance(call, RerankRequest) for call in calls) == 19
    refused = calls[-1]
    assert isinstance(refused, InvalidRequest)
    assert refused.param == "rank_fields"


SPANS = {"mode": "enabled"}


@pytest.mark.parametrize(
    ("document", "more", "fits"),
    [
        ("x" * 1000, {}, False),
        ("x" * 1000, {"return_documents": False}, True),
        ({"text": "a", "metadata": ["x" * 1000]}, {"return_documents": False}, False),
        ({"text": "a", "other": ["x" * 1000]}, {}, True),
        ("x" * 300, {}, True),
        ("x" * 10_000, {"return_documents": False}, False),
        ("A b. " * 50, {"return_documents": False, "relevant_spans": SPANS}, False),
        ("A b, " * 50, {"return_documents": False, "relevant_spans": SPANS}, True),
        ({"image": "data:image/png;base64," + "x" * 1000}, {}, False),
    ],
)
@pytest.mark.parametrize("query", ["q", {"query": "q"}])
def test_answers_repeat_a_bounded_amount_of_the_shared_documents(
    query: Any, document: Any, more: dict[str, Any], fits: bool
) -> None:
    body = {"queries": [query] * 10, "documents": [document], **more}
    with nullcontext() if fits else pytest.raises(InvalidRequest, match="repeat more than 8000"):
        BATCH.parse_all(body, Limits(max_body_bytes=2000))


def test_queries_repeat_a_bounded_amount_of_a_shared_image() -> None:
    body = {"documents": ["a"], "query_image_url": "data:image/png;base64," + "x" * 1000}
    limits = Limits(max_body_bytes=2000)
    assert len(BATCH.parse_all({**body, "queries": [""] * 7}, limits)) == 7
    with pytest.raises(InvalidRequest, match="fewer queries"):
        BATCH.parse_all({**body, "queries": [""] * 8}, limits)


@pytest.mark.parametrize("depth", [100, 101, 900])
async def test_a_query_id_is_returned_unless_it_is_nested_too_deeply(depth: int) -> None:
    sent: Any = []
    for _ in range(depth - 1):
        sent = [sent]
    queries = [{"query": "a", "id": sent}, "a"]
    first, second = (await asked_many(BATCH, {"queries": queries, "documents": ["a"]}))["answers"]
    assert "results" in second
    if depth == 100:
        assert first["query_id"] == sent
    else:
        assert (first["status"], first["error"]["param"]) == (422, "id")


def test_only_the_best_documents_are_repeated() -> None:
    body = {"queries": ["q"] * 10, "documents": ["x" * 1000, *["y" * 100] * 9], "top_k": 1}
    limits = Limits(max_body_bytes=4000)
    assert len(BATCH.parse_all(body, limits)) == 10
    with pytest.raises(InvalidRequest, match="lower top_k"):
        BATCH.parse_all({**body, "top_k": 2}, limits)
