"""`benchmarks.raw_http`, a client that sends what it is told to."""

from __future__ import annotations

import gzip

import pytest

from benchmarks import raw_http
from benchmarks.raw_http import Request
from tests.benchmarks.byte_server import byte_server


async def test_bytes_are_sent_unchanged() -> None:
    answer = b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}"
    async with byte_server(answer) as (url, seen):
        request = Request("/x", b"\xff", {"x-request-id": b"\xe9", "content-length": b"1"})
        found = await raw_http.exchange(url, request, 5)
    assert (found.status, found.json()) == (201, {})
    start, _, rest = seen[0].partition(b"\r\n")
    assert start == b"POST /x HTTP/1.1"
    assert b"x-request-id: \xe9\r\n" in rest
    assert rest.count(b"content-length") == 1
    assert rest.endswith(b"\r\n\r\n\xff")


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (b"HTTP/1.0 400 Bad request\r\n\r\nno length", b"no length"),
        (b"HTTP/1.1 400 x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", b"abc"),
        (
            b"HTTP/1.1 400 x\r\nContent-Encoding: gzip\r\n\r\n" + gzip.compress(b"small"),
            b"small",
        ),
    ],
)
async def test_bodies_are_read_in_every_form(answer: bytes, body: bytes) -> None:
    async with byte_server(answer) as (url, _):
        found = await raw_http.exchange(url, Request("/", b"{}"), 5)
    assert (found.status, found.body) == (400, body)


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (b"HTTP/1.1 429 x\r\nContent-Length: 0\r\n\r\n", "429"),
        (b"", raw_http.NO_ANSWER),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", raw_http.NO_ANSWER),
        (None, raw_http.TIMED_OUT),
    ],
)
async def test_the_outcome_is_a_status_or_why_there_is_none(
    answer: bytes | None, outcome: str
) -> None:
    async with byte_server(answer) as (url, _):
        assert await raw_http.outcome(url, Request("/", b"{}"), 0.2) == outcome
