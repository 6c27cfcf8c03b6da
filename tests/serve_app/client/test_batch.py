"""`batch`: several queries in one call."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from serve_app.client import AsyncReranker, BadAnswer, Reranker, Retry, TokenUsageTracker
from serve_app.errors import InvalidRequest, Overloaded, Unauthorized, UnknownModel
from tests.serve_app.fakes import FakeFrontend

FAST = Retry(base_s=0.001, cap_s=0.002)
Entry = dict[str, Any]


class Server:
    """A server whose documents are numbers, their own scores; `fail` can override an answer."""

    def __init__(self, fail: Callable[[str, int], Entry | httpx.Response | None]) -> None:
        self.paths: list[str] = []
        self.queries: list[list[str]] = []
        self._fail = fail

    def __call__(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        self.paths.append(request.url.path)
        if request.url.path == "/rerank":
            return self._answer([body["query"]], body, alone=True)
        queries = [entry["query"] for entry in body["queries"]]
        self.queries.append(queries)
        return self._answer(queries, body)

    def _answer(self, queries: list[str], body: Entry, alone: bool = False) -> httpx.Response:
        answers: list[Entry] = []
        for i, query in enumerate(queries):
            problem = self._fail(query, len(self.paths))
            if isinstance(problem, httpx.Response):
                return problem
            documents = body.get("documents") or body["queries"][i]["documents"]
            hits = [{"index": j, "score": float(d)} for j, d in enumerate(documents)]
            good = {"results": hits, "model": "m", "usage": {"total_tokens": len(hits)}}
            answers.append({"index": i, **(problem or good)})
        return httpx.Response(200, json=answers[0] if alone else {"answers": answers})

    def client(self, **options: Any) -> AsyncReranker:
        http = httpx.AsyncClient(transport=httpx.MockTransport(self))
        options = {"tracker": TokenUsageTracker(), "retry": FAST, **options}
        return AsyncReranker("http://test", client=http, **options)


def no_failure(query: str, attempt: int) -> None:
    return None


def error(status: int, code: str) -> Entry:
    return {"error": {"code": code, "message": "no", "param": None}, "status": status}


def test_the_service_ranks_all_queries_in_one_request(
    url: str, front: FakeFrontend, tracker: TokenUsageTracker
) -> None:
    before = front.telemetry.snapshot().http["batch", 200]
    with Reranker(url, tracker=tracker, tool="many") as client:
        found = client.batch(
            [("pandas eat", ["stocks fell", "pandas eat"]), (" ", ["a"]), ("c", []), ("a", ["a"])],
            top_k=1,
            on_error="report",
        )
    assert front.telemetry.snapshot().http["batch", 200] == before + 1
    assert [[hit.index for hit in result] for result in found] == [[1], [], [], [0]]
    assert [result.query for result in found] == ["pandas eat", " ", "c", "a"]
    (failure,) = found[1].failures
    assert isinstance(failure.error, InvalidRequest)
    assert failure.error.__notes__ == ["documents 0 to 0 of query 1"]
    assert not found[0].failures
    (row,) = tracker.snapshot().rows
    assert (row.requests, row.tokens) == (1, found[0].tokens + found[3].tokens)


def test_the_first_failure_raises_by_default(reranker: Reranker) -> None:
    with pytest.raises(InvalidRequest) as raised:
        reranker.batch([("a", ["a"]), (" ", ["a", "b"])])
    assert raised.value.__notes__[-1] == "documents 0 to 1 of query 1"
    with pytest.raises(UnknownModel, match="none-such"):
        reranker.batch([("a", ["a"]), ("b", ["a"])], model="none-such")


async def test_only_temporary_failures_are_retried() -> None:
    def busy(query: str, attempt: int) -> Entry | None:
        return error(429, "overloaded") if query == "b" and attempt < 3 else None

    server = Server(busy)
    tracker = TokenUsageTracker()
    found = await server.client(tracker=tracker).batch([(q, ["1", "2"]) for q in "abc"])
    assert server.queries == [["a", "b", "c"], ["b"], ["b"]]
    assert [len(result) for result in found] == [2, 2, 2]
    assert tracker.snapshot().tokens == 6
    late = {**error(429, "rate_limited"), "retry_after_s": 3600}
    server = Server(lambda query, attempt: late if query == "b" else None)
    found = await server.client(on_error="report").batch([("a", ["1"]), ("b", ["1"])])
    assert len(server.paths) == 1
    assert found[1].failures[0].error.retry_after_s == 3600


async def test_a_failed_request_fails_all_its_queries() -> None:
    denied = httpx.Response(401, json={"message": "no key"})
    server = Server(lambda query, attempt: denied)
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
    server = Server(no_failure)
    whole = httpx.Response(status, json={"message": "too many"})
    server._fail = lambda query, attempt: whole if server.paths[-1] != "/rerank" else None
    client = server.client()
    found = await client.batch([("a", ["1"]), ("b", ["1"])])
    assert server.paths == ["/rerank/batch", "/rerank", "/rerank"]
    assert all(result.requests == 1 for result in found)


async def test_a_missing_batch_route_is_tried_only_once() -> None:
    server = Server(no_failure)
    missing = httpx.Response(404, content=b"not found")
    server._fail = lambda query, attempt: missing if server.paths[-1] != "/rerank" else None
    client = server.client()
    for _ in range(2):
        assert len(await client.batch([("a", ["1"]), ("b", ["1"])])) == 2
    assert server.paths == ["/rerank/batch", *["/rerank"] * 4]


async def test_other_dialects_get_one_request_per_query() -> None:
    server = Server(no_failure)
    await server.client(dialect="cohere").batch([("a", ["1"]), ("b", ["1"])])
    assert server.paths == ["/rerank"] * 2


async def test_requests_are_limited_in_documents_queries_and_characters() -> None:
    server = Server(no_failure)
    found = await server.client(max_connections=1).batch([("a", ["1"] * 30)] * 3, batch_size=50)
    assert server.paths == ["/rerank"] * 3, "a request with one query uses the plain route"
    assert all(len(result) == 30 for result in found)
    server = Server(no_failure)
    await server.client(max_connections=1).batch([(str(i), ["1"]) for i in range(150)])
    assert [len(queries) for queries in server.queries] == [64, 64, 22]
    server = Server(no_failure)
    await server.client().batch([("a", ["1" * 300]), ("b" * 1_999_800, ["1"]), ("c", ["2"])])
    assert sorted(server.paths) == ["/rerank", "/rerank/batch"]


async def test_a_large_query_is_split_into_batches() -> None:
    server = Server(no_failure)
    found = await server.client().batch(
        [("a", ["1", "9", "2", "8", "3"]), ("b", ["4"])], batch_size=2, top_k=2
    )
    assert [hit.index for hit in found[0]] == [1, 3]
    assert [hit.index for hit in found[1]] == [0]
    assert sorted(map(len, server.queries)) == [2]


async def test_shared_documents_are_sent_once() -> None:
    bodies = []

    def handler(request: httpx.Request) -> httpx.Response:
        bodies.append(json.loads(request.content))
        hits = [{"index": 0, "score": 1.0}]
        return httpx.Response(
            200, json={"answers": [{"index": i, "results": hits} for i in (0, 1)]}
        )

    http = httpx.AsyncClient(transport=httpx.MockTransport(handler))
    client = AsyncReranker("http://test", client=http, tracker=TokenUsageTracker())
    await client.batch([("a", ["1", "2"]), ("b", ["1", "2"])], top_k=1, instruction="i")
    (body,) = bodies
    own = {"top_k": 1, "instruction": "i"}
    assert body["queries"] == [{"query": "a", **own}, {"query": "b", **own}]
    assert body["documents"] == ["1", "2"]


@pytest.mark.parametrize(
    "answers",
    [[], [{"index": 1, "results": []}, {"index": 0, "results": []}], [{"index": 0}], "none"],
)
async def test_an_invalid_response_is_a_bad_answer(answers: Any) -> None:
    http = httpx.AsyncClient(
        transport=httpx.MockTransport(lambda _: httpx.Response(200, json={"answers": answers}))
    )
    client = AsyncReranker("http://test", client=http, retry=FAST, tracker=TokenUsageTracker())
    with pytest.raises(BadAnswer):
        await client.batch([("a", ["1"]), ("b", ["1"])])


async def test_a_failed_request_is_retried() -> None:
    full = httpx.Response(503, json={"message": "later"}, headers={"retry-after": "0"})
    server = Server(lambda query, attempt: full if attempt < 3 else None)
    assert len(await server.client().batch([("a", ["1"]), ("b", ["1"])])) == 2
    server = Server(lambda query, attempt: error(429, "overloaded"))
    with pytest.raises(Overloaded):
        await server.client().batch([("a", ["1"]), ("b", ["1"])])
    assert len(server.paths) == 1 + FAST.attempts


async def test_invalid_arguments_name_the_option_or_query() -> None:
    client = Server(no_failure).client()
    with pytest.raises(TypeError, match="'topk'"):
        await client.batch([("a", ["1"])], topk=3)  # type: ignore[call-arg]
    with pytest.raises(InvalidRequest) as raised:
        await client.batch([("a", ["1"]), ("b", [3])])
    assert raised.value.__notes__ == ["query 1"]
    assert await client.batch([]) == []
