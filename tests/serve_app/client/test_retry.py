"""Retries: which failures, how many, and the pauses between them."""

from __future__ import annotations

import time
from email.utils import formatdate
from typing import Any

import httpx
import pytest

from serve_app.client import Retry, Unreachable
from serve_app.errors import Overloaded, RateLimited
from tests.serve_app.client.scripted_servers import ok, scripted


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
