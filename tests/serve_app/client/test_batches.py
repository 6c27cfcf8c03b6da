"""Splitting documents into batches, grouping queries, and merging the results."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_app.client import TokenUsageTracker
from serve_app.errors import ScoringFailed
from tests.serve_app.client.scripted_servers import BatchServer, Server, fail_on_13, no_failure


@settings(deadline=None, max_examples=60)
@given(
    numbers=st.lists(st.integers(0, 50), max_size=60),
    size=st.integers(1, 25),
    top_k=st.none() | st.integers(1, 80),
)
async def test_batches_rank_like_a_single_request(
    numbers: list[int], size: int, top_k: int | None
) -> None:
    server = Server()
    texts = [str(n) for n in numbers]
    found = await server.client().rerank("q", texts, batch_size=size, top_k=top_k)
    expected = sorted(range(len(numbers)), key=lambda i: (-numbers[i], i))[:top_k]
    assert [hit.index for hit in found] == expected
    assert found.documents == [texts[i] for i in expected]
    assert len(server.bodies) == found.requests == -(-len(numbers) // size)
    assert found.tokens == found.total == len(numbers)


async def test_a_failed_batch_is_reported_alongside_the_other_results() -> None:
    texts = [str(n) for n in range(30)]
    tracker = TokenUsageTracker()
    client = Server(fail_on_13).client(batch_size=10, tracker=tracker)
    found = await client.rerank("q", texts, on_error="report", top_k=20)
    assert [hit.index for hit in found] == [*range(29, 19, -1), *range(9, -1, -1)]
    assert found.failed_indices == list(range(10, 20))
    assert found.requests == 2
    assert tracker.snapshot().tokens == 20, "the failed batch has no tokens"
    (failure,) = found.failures
    assert isinstance(failure.error, ScoringFailed)
    assert "documents 10 to 19: test returned 500: no usable score" in str(found)
    with pytest.raises(ScoringFailed):
        found.raise_for_failures()
    with pytest.raises(ValueError, match="10 of 30 documents have no score"):
        found.in_order()


async def test_requests_are_limited_in_documents_queries_and_characters() -> None:
    server = BatchServer(no_failure)
    found = await server.client(max_connections=1).batch([("a", ["1"] * 30)] * 3, batch_size=50)
    assert server.paths == ["/rerank"] * 3, "a request with one query uses the plain route"
    assert all(len(result) == 30 for result in found)
    server = BatchServer(no_failure)
    await server.client(max_connections=1).batch([(str(i), ["1"]) for i in range(150)])
    assert [len(queries) for queries in server.queries] == [64, 64, 22]
    server = BatchServer(no_failure)
    await server.client().batch([("a", ["1" * 300]), ("b" * 1_999_800, ["1"]), ("c", ["2"])])
    assert sorted(server.paths) == ["/rerank", "/rerank/batch"]


async def test_a_large_query_is_split_into_batches() -> None:
    server = BatchServer(no_failure)
    found = await server.client().batch(
        [("a", ["1", "9", "2", "8", "3"]), ("b", ["4"])], batch_size=2, top_k=2
    )
    assert [hit.index for hit in found[0]] == [1, 3]
    assert [hit.index for hit in found[1]] == [0]
    assert sorted(map(len, server.queries)) == [2]
