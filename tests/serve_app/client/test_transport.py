"""Retries, timeouts, hosted providers and Ray handles."""

from __future__ import annotations

import asyncio
import time
from email.utils import formatdate
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from serve_app.client import (
    AsyncReranker,
    BadAnswer,
    Refused,
    Retry,
    TokenUsageTracker,
    TookTooLong,
    Unreachable,
)
from serve_app.client.http_transport import route
from serve_app.errors import InvalidRequest, Overloaded, RateLimited, RerankError, Unauthorized

OK = {"results": [{"index": 0, "relevance_score": 0.5}]}
FAST = Retry(base_s=0.001, cap_s=0.002)


def scripted(*answers: Any, retry: Retry = FAST, **options: Any) -> tuple[AsyncReranker, list[Any]]:
    """Create a client whose requests get `answers` in turn: responses or exceptions."""
    waiting, requests = list(answers), []

    def handler(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        answer = waiting.pop(0)
        if isinstance(answer, Exception):
            raise answer
        response: httpx.Response = answer
        return response

    http = httpx.AsyncClient(transport=httpx.MockTransport(handler))
    options = {"tracker": TokenUsageTracker(), **options}
    return AsyncReranker("http://test/v1/", client=http, retry=retry, **options), requests


def ok(**fields: Any) -> httpx.Response:
    return httpx.Response(200, json={**OK, **fields})


@pytest.mark.parametrize(
    "failure",
    [
        httpx.Response(503),
        httpx.Response(429, json={"message": "slow down"}),
        httpx.Response(502, content=b"<html>bad gateway</html>"),
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("slow"),
        httpx.RemoteProtocolError("closed"),
    ],
)
async def test_temporary_failures_are_retried(failure: Any) -> None:
    client, requests = scripted(failure, ok())
    assert await client.score("q", "d") == 0.5
    assert [str(request.url) for request in requests] == ["http://test/v1/rerank"] * 2


@pytest.mark.parametrize(
    ("answer", "kind", "message"),
    [
        (httpx.Response(401, json={"message": "no key", "id": "1"}), Unauthorized, "no key"),
        (httpx.Response(422, json={"detail": "bad top_n"}), InvalidRequest, "bad top_n"),
        (httpx.Response(422, json={"detail": [{"msg": "x"}]}), InvalidRequest, '"msg": "x"'),
        (httpx.Response(402, content=b"pay"), Refused, "402: pay"),
        (httpx.Response(413, json={"error": "too many", "error_type": "V"}), RerankError, "too m"),
        (ok(results=[]), BadAnswer, "0 results instead of 1"),
        (ok(results=OK["results"] * 2), BadAnswer, "twice"),
        (ok(results=[{"index": 1, "score": 0.1}]), BadAnswer, "index 1; expected 0 to 0"),
        (ok(results=[{"index": 0, "score": None}]), BadAnswer, "results.0"),
        (ok(results=[{"index": True, "score": 1}]), BadAnswer, "results.0.index"),
        (ok(results=[{"index": 0, "score": "1"}]), BadAnswer, "results.0"),
        (httpx.Response(200, content=b'{"results":[{"index":0,"score":NaN}]}'), BadAnswer, "score"),
        (httpx.Response(200, content=b"<html>"), BadAnswer, "<html>"),
        (httpx.Response(200, json={"detail": "no"}), BadAnswer, "results"),
    ],
)
async def test_permanent_failures_are_raised_without_a_retry(
    answer: httpx.Response, kind: type[RerankError], message: str
) -> None:
    client, requests = scripted(answer)
    with pytest.raises(kind) as raised:
        await client.score("q", "d")
    assert message in str(raised.value)
    assert "test" in str(raised.value)
    assert len(requests) == 1


async def test_the_number_of_retries_is_limited() -> None:
    client, requests = scripted(*[httpx.ConnectError("refused")] * 4)
    with pytest.raises(Unreachable, match="refused"):
        await client.score("q", "d")
    assert len(requests) == 4


@pytest.mark.parametrize("value", ["1", "0.9", "a date"])
async def test_retry_after_is_honoured(value: str) -> None:
    if value == "a date":
        value = formatdate(time.time() + 2, usegmt=True)
    client, _ = scripted(httpx.Response(429, headers={"retry-after": value}), ok())
    started = time.monotonic()
    assert await client.score("q", "d") == 0.5
    assert 0.9 <= time.monotonic() - started < 3


async def test_a_long_retry_after_raises_immediately() -> None:
    client, requests = scripted(httpx.Response(429, headers={"retry-after": "3600"}))
    with pytest.raises(RateLimited) as raised:
        await client.score("q", "d")
    assert (raised.value.retry_after_s, len(requests)) == (3600, 1)


def test_pauses_grow_and_have_jitter() -> None:
    retry, error = Retry(attempts=5, base_s=1, cap_s=4), Overloaded("full")
    error.retry_after_s = None
    pauses = [[retry.pause(tried, error) for _ in range(50)] for tried in range(1, 6)]
    for several, ceiling in zip(pauses, (1, 2, 4, 4, 4), strict=True):
        assert all(p is not None and ceiling / 2 <= p <= ceiling for p in several)
        assert len(set(several)) > 40
    assert retry.pause(6, error) is None


async def test_a_silent_server_times_out() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    never = Retry(attempts=0)
    url = f"http://127.0.0.1:{port}"
    async with AsyncReranker(url, timeout_s=0.2, retry=never, track_tokens=False) as client:
        with pytest.raises(TookTooLong, match=r"0\.2 s"):
            await client.score("q", "d")
    server.close()


async def test_hosted_providers_formats() -> None:
    cohere = {"meta": {"tokens": {"input_tokens": 7.0}, "warnings": ["w"]}, "id": "x"}
    client, requests = scripted(ok(**cohere), dialect="cohere", model="rerank-v3.5", api_key="k")
    found = await client.rerank("q", [{"text": "d", "id": 4}], top_k=1)
    assert (found.tokens, found.warnings, found[0].metadata) == (7, ("w",), {"id": 4})
    expected = b'{"query":"q","documents":["d"],"top_n":1,"model":"rerank-v3.5"}'
    assert requests[0].content == expected
    jina = {"model": "jina-reranker-v2", "usage": {"total_tokens": 9, "prompt_tokens": 9}}
    client, requests = scripted(ok(**jina), dialect="jina")
    assert (await client.rerank("q", ["d"])).tokens == 9
    assert b'"return_documents":false' in requests[0].content
    voyage = {"object": "list", "data": OK["results"], "usage": {"total_tokens": 3}}
    client, requests = scripted(httpx.Response(200, json=voyage), dialect="voyage")
    assert (await client.rerank("q", ["d"], top_k=1)).tokens == 3
    assert b'"top_k":1' in requests[0].content


def test_the_rerank_route_is_derived_from_the_base_url() -> None:
    assert route("http://a") == route("http://a/") == route("http://a/rerank") == "http://a/rerank"
    assert route("https://api.jina.ai/v1") == "https://api.jina.ai/v1/rerank"


class FakeHandle:
    """The part of a DeploymentHandle that the client uses."""

    def __init__(self, *failures: Exception) -> None:
        self.rerank, self.failures = self, list(failures)
        self.requests: list[Any] = []

    async def remote(self, query: str, documents: list[Any], **fields: Any) -> Any:
        self.requests.append((query, documents, fields))
        if self.failures:
            raise self.failures.pop(0)
        hits = [
            SimpleNamespace(index=i, relevance_score=float(i), relevant_spans=())
            for i in range(len(documents))
        ]
        return SimpleNamespace(results=hits[::-1], model="m", tokens=5, truncated=(1,))


async def test_a_ray_handle_is_called_and_retried() -> None:
    class Wrapped(Exception):
        cause = Overloaded("full")

    Wrapped.cause.retry_after_s = None
    handle = FakeHandle(Wrapped(), RuntimeError("replica died"))
    client = AsyncReranker(handle, retry=FAST, tracker=TokenUsageTracker())
    found = await client.rerank("q", ["a", "b"], top_k=2, instruction="i")
    assert [hit.document for hit in found] == ["b", "a"]
    assert (found.tokens, len(found.warnings)) == (5, 1)
    assert handle.requests == [("q", ["a", "b"], {"top_n": 2, "instruction": "i"})] * 3
    client = AsyncReranker(FakeHandle(InvalidRequest("no")), track_tokens=False)
    with pytest.raises(InvalidRequest, match="no"):
        await client.rerank("q", ["a"])
