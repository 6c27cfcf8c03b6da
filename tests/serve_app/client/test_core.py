"""The async client against a scripted server: batches, merging, failures, arguments."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_app.client import AsyncReranker, Retry, TokenUsageTracker
from serve_app.errors import InvalidRequest, ScoringFailed

Handler = Callable[[dict[str, Any]], httpx.Response]
FAST = Retry(base_s=0.001, cap_s=0.002)


class Server:
    """A server whose documents are numbers, their own scores; it counts concurrent requests.

    It has no route for several queries.
    """

    def __init__(self, fail: Handler | None = None) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[httpx.Headers] = []
        self.active = self.max_active = 0
        self._fail = fail

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path != "/rerank":
            return httpx.Response(404)
        body = json.loads(request.content)
        self.bodies.append(body)
        self.headers.append(request.headers)
        self.active += 1
        self.max_active = max(self.max_active, self.active)
        await asyncio.sleep(0.002)
        self.active -= 1
        if self._fail is not None and (failure := self._fail(body)):
            return failure
        ranked = sorted(
            ({"index": i, "score": float(d)} for i, d in enumerate(body["documents"])),
            key=lambda hit: -hit["score"],
        )[: body.get("top_k")]
        tokens = len(body["documents"])
        return httpx.Response(
            200, json={"results": ranked, "model": "m", "usage": {"total_tokens": tokens}}
        )

    def client(self, **options: Any) -> AsyncReranker:
        http = httpx.AsyncClient(transport=httpx.MockTransport(self))
        tracker = options.pop("tracker", TokenUsageTracker())
        return AsyncReranker("http://test", client=http, retry=FAST, tracker=tracker, **options)


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


def fail_on_13(body: dict[str, Any]) -> httpx.Response | None:
    if "13" not in body["documents"]:
        return None
    error = {"code": "scoring_failed", "message": "no usable score", "param": None}
    return httpx.Response(500, json={"error": error}, headers={"x-request-id": "r-1"})


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


async def test_scores_are_in_the_documents_order() -> None:
    client = Server().client(batch_size=2)
    assert await client.compute_scores("q", ["3", "9", "5"], top_k=1) == [3.0, 9.0, 5.0]
    assert await client.score("q", "7") == 7.0
    scores, tokens = await client.similarity("q", ["3", "9", "5"])
    assert (scores.tolist(), scores.dtype.kind, tokens) == ([3.0, 9.0, 5.0], "f", 3)
    empty, none = await client.similarity("q", [])
    assert (empty.shape, none) == ((0,), 0)


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


async def test_request_body_and_headers() -> None:
    server = Server()
    client = server.client(model="m1", api_key="k", extra_body={"user": "u"}, headers={"x-a": "b"})
    await client.rerank(
        "q",
        ["1", "2"],
        instruction="i",
        max_tokens_per_doc=9,
        long_document="truncate",
        query_image_url="https://pictures.example/q.png",
    )
    assert server.bodies == [
        {
            "query": "q",
            "documents": ["1", "2"],
            "return_documents": False,
            "model": "m1",
            "instruction": "i",
            "max_tokens_per_doc": 9,
            "long_document": "truncate",
            "query_image_url": "https://pictures.example/q.png",
            "user": "u",
        }
    ]
    assert (server.headers[0]["authorization"], server.headers[0]["x-a"]) == ("Bearer k", "b")


@pytest.mark.parametrize(
    ("arguments", "param"),
    [
        ({"top_k": 0}, "top_k"),
        ({"top_k": 1.5}, "top_k"),
        ({"top_k": True}, "top_k"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
async def test_invalid_numbers_are_rejected(arguments: dict[str, int], param: str) -> None:
    with pytest.raises(InvalidRequest, match=param):
        await Server().client().rerank("q", ["1"], **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("target", "options", "param"),
    [
        ("127.0.0.1:8000", {}, "target"),
        ("localhost", {}, "target"),
        ("ftp://host", {}, "target"),
        ("http://", {}, "target"),
        ("", {}, "target"),
        (None, {}, "target"),
        ("http://test", {"dialect": "other"}, "dialect"),
        ("http://test", {"on_error": "ignore"}, "on_error"),
        ("http://test", {"timeout_s": 0}, "timeout_s"),
        ("http://test", {"max_connections": 0}, "max_connections"),
    ],
)
def test_invalid_constructor_arguments_are_rejected(
    target: Any, options: dict[str, Any], param: str
) -> None:
    with pytest.raises(InvalidRequest) as raised:
        AsyncReranker(target, **options)
    assert raised.value.param == param


@pytest.mark.parametrize("single", ["one document", b"bytes", {"text": "one document"}, 3])
async def test_a_single_document_must_be_in_a_list(single: Any) -> None:
    server = Server()
    with pytest.raises(InvalidRequest, match="wrap a single document in a list"):
        await server.client().rerank("q", single)
    with pytest.raises(InvalidRequest, match="on_error"):
        await server.client().rerank("q", ["1"], on_error="none")  # type: ignore[arg-type]
    assert not server.bodies


async def test_a_query_must_be_a_string() -> None:
    with pytest.raises(InvalidRequest, match="query must be a string, not int"):
        await Server().client().rerank(3, ["1"])  # type: ignore[arg-type]
    for requests in (["ab"], [("a",)], [3]):
        with pytest.raises(InvalidRequest, match=r"requests\[0\]"):
            await Server().client().batch(requests)  # type: ignore[arg-type]


async def test_arrays_and_frames_are_accepted_as_documents() -> None:
    frame = pd.DataFrame({"text": ["1", "2"], "source": ["x", "y"]})
    found = await Server().client().rerank("q", frame, top_k=np.int64(1))  # type: ignore[arg-type]
    assert (found[0].index, found[0].metadata) == (1, {"source": "y"})
    assert len(await Server().client().rerank("q", frame["text"])) == 2
    assert len(await Server().client().rerank("q", np.array(["1", "2"]))) == 2


async def test_repr_is_the_same_table_as_str() -> None:
    found = await Server().client().rerank("q", ["1", "2"])
    assert repr(found) == str(found)


async def test_usage_is_counted_unless_turned_off() -> None:
    tracker = TokenUsageTracker()
    client = Server().client(tracker=tracker, batch_size=2, tool="search")
    await client.rerank("q", ["1", "2", "3"])
    await client.rerank("q", ["1", "2", "3"], track_tokens=False)
    await Server().client(tracker=tracker, track_tokens=False).rerank("q", ["1"])
    (row,) = tracker.snapshot().rows
    assert (row.tool, row.model, row.tokens, row.requests) == ("search", "m", 3, 2)
