"""Sending batches: concurrency, failures, and several queries in one request."""

from __future__ import annotations

import asyncio
import random

import httpx
import pytest

from serve_app.client import TokenUsageTracker
from serve_app.errors import Overloaded, ScoringFailed, Unauthorized
from tests.serve_app.client.scripted_servers import (
    FAST,
    BatchServer,
    Entry,
    Server,
    fail_on_13,
    no_failure,
)


async def test_batches_of_2000_are_sent_concurrently_up_to_the_limit() -> None:
    texts = [str(n) for n in random.Random(0).sample(range(50_000), 9_001)]
    server = Server()
    found = await server.client(max_connections=3).rerank("q", texts)
    assert [len(body["documents"]) for body in server.bodies] == [2000] * 4 + [1001]
    assert server.max_active == 3
    assert [hit.score for hit in found] == sorted(map(float, texts), reverse=True)
    server = Server()
    await server.client().rerank("q", texts)
    assert server.max_active == 5


async def test_a_failed_batch_raises_with_its_indices_by_default() -> None:
    texts = [str(n) for n in range(30)]
    with pytest.raises(ScoringFailed) as raised:
        await Server(fail_on_13).client(batch_size=10).rerank("q", texts)
    assert raised.value.__notes__ == ["request id: r-1", "documents 10 to 19"]
    assert raised.value.status == 500
    client = Server(fail_on_13).client(batch_size=10, on_error="report")
    with pytest.raises(ScoringFailed):
        await client.compute_scores("q", texts)


async def test_a_failure_cancels_the_other_requests_but_not_the_caller() -> None:
    texts = ["13", *map(str, range(14, 40))]
    server = Server(fail_on_13)
    with pytest.raises(ScoringFailed):
        await server.client(batch_size=1, max_connections=1).rerank("q", texts)
    assert len(server.bodies) <= 2
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_queries_are_sent_one_by_one_without_a_batch_route() -> None:
    server = Server()
    seen: list[tuple[int, int]] = []
    found = await server.client().batch(
        [("a", ["1", "2"]), ("b", []), ("c", ["5", "4", "6"])],
        top_k=2,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert [(r.query, [h.index for h in r]) for r in found] == [
        ("a", [1, 0]),
        ("b", []),
        ("c", [2, 0]),
    ]
    assert server.max_active == 2
    assert sorted(seen) == [(done, 5) for done in sorted({seen[0][0], 5})]


async def test_usage_is_counted_unless_turned_off() -> None:
    tracker = TokenUsageTracker()
    client = Server().client(tracker=tracker, batch_size=2, tool="search")
    await client.rerank("q", ["1", "2", "3"])
    await client.rerank("q", ["1", "2", "3"], track_tokens=False)
    await Server().client(tracker=tracker, track_tokens=False).rerank("q", ["1"])
    (row,) = tracker.snapshot().rows
    assert (row.tool, row.model, row.tokens, row.requests) == ("search", "m", 3, 2)


def error(status: int, code: str) -> Entry:
    return {"error": {"code": code, "message": "no", "param": None}, "status": status}


async def test_only_temporary_failures_are_retried() -> None:
    def busy(query: str, attempt: int) -> Entry | None:
        return error(429, "overloaded") if query == "b" and attempt < 3 else None

    server = BatchServer(busy)
    tracker = TokenUsageTracker()
    found = await server.client(tracker=tracker).batch([(q, ["1", "2"]) for q in "abc"])
    assert server.queries == [["a", "b", "c"], ["b"], ["b"]]
    assert [len(result) for result in found] == [2, 2, 2]
    assert tracker.snapshot().tokens == 6
    late = {**error(429, "rate_limited"), "retry_after_s": 3600}
    server = BatchServer(lambda query, attempt: late if query == "b" else None)
    found = await server.client(on_error="report").batch([("a", ["1"]), ("b", ["1"])])
    assert len(server.paths) == 1
    assert found[1].failures[0].error.retry_after_s == 3600


async def test_a_failed_request_fails_all_its_queries() -> None:
    denied = httpx.Response(401, json={"message": "no key"})
    server = BatchServer(lambda query, attempt: denied)
    found = await server.client(on_error="report").batch([("a", ["1"]), ("b", ["1", "2"])])
    errors = [result.failures[0].error for result in found]
    assert len(server.paths) == 1
    assert all(isinstance(one, Unauthorized) for one in errors)
    assert [one.__notes__ for one in errors] == [
        ["documents 0 to 0 of query 0"],
        ["documents 0 to 1 of query 1"],
    ]


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_queries_are_sent_separately_if_the_combined_request_is_rejected(
    status: int,
) -> None:
    server = BatchServer(no_failure)
    whole = httpx.Response(status, json={"message": "too many"})
    server._fail = lambda query, attempt: whole if server.paths[-1] != "/rerank" else None
    client = server.client()
    found = await client.batch([("a", ["1"]), ("b", ["1"])])
    assert server.paths == ["/rerank/batch", "/rerank", "/rerank"]
    assert all(result.requests == 1 for result in found)


async def test_a_missing_batch_route_is_tried_only_once() -> None:
    server = BatchServer(no_failure)
    missing = httpx.Response(404, content=b"not found")
    server._fail = lambda query, attempt: missing if server.paths[-1] != "/rerank" else None
    client = server.client()
    for _ in range(2):
        assert len(await client.batch([("a", ["1"]), ("b", ["1"])])) == 2
    assert server.paths == ["/rerank/batch", *["/rerank"] * 4]


async def test_other_dialects_get_one_request_per_query() -> None:
    server = BatchServer(no_failure)
    await server.client(dialect="cohere").batch([("a", ["1"]), ("b", ["1"])])
    assert server.paths == ["/rerank"] * 2


async def test_a_failed_request_is_retried() -> None:
    full = httpx.Response(503, json={"message": "later"}, headers={"retry-after": "0"})
    server = BatchServer(lambda query, attempt: full if attempt < 3 else None)
    assert len(await server.client().batch([("a", ["1"]), ("b", ["1"])])) == 2
    server = BatchServer(lambda query, attempt: error(429, "overloaded"))
    with pytest.raises(Overloaded):
        await server.client().batch([("a", ["1"]), ("b", ["1"])])
    assert len(server.paths) == 1 + FAST.attempts
