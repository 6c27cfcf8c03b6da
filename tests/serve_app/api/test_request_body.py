"""Request bodies: the byte budget, the minimum pace, and what a request counts."""

from __future__ import annotations

import asyncio
import gzip
import logging
import math
import tracemalloc
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from starlette.requests import Request

from serve_app.api import request_body
from serve_app.api.app import make_app
from serve_app.api.dialects.routes import ROUTES
from serve_app.api.request_body import OVERHEAD_BYTES, Bodies, ClientDisconnected, parsed_size
from serve_app.errors import (
    BodyTooLarge,
    BodyTooSlow,
    DeadlineExceeded,
    Overloaded,
)
from serve_app.service.deadline import Deadline
from tests.serve_app.fakes import FakeFrontend
from tests.waiting import settle, until

LIMIT = 2**20
BODY = orjson.dumps({"query": "a", "documents": ["a"]})


class Upload:
    """A request whose body the test sends piece by piece."""

    def __init__(self, bodies: Bodies, limit: int = LIMIT, **headers: str) -> None:
        self.messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        names = [(name.replace("_", "-").encode(), v.encode()) for name, v in headers.items()]
        scope = {"type": "http", "method": "POST", "path": "/", "headers": names}
        self.request = Request(scope, self.messages.get)
        self.deadline = math.inf
        self.released = asyncio.Event()
        self.task = asyncio.create_task(self._read(bodies, limit))

    async def _read(self, bodies: Bodies, limit: int) -> bytes:
        with bodies.body() as body:
            content = await body.read(self.request, limit, self.deadline)
            await self.released.wait()
            return content

    def send(self, chunk: bytes, more: bool = True) -> None:
        self.messages.put_nowait({"type": "http.request", "body": chunk, "more_body": more})


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_body, "PACE_S", 0.05)
    monkeypatch.setattr(request_body, "PACE_BYTES", 10)


async def test_bytes_count_from_their_arrival_until_the_request_is_over() -> None:
    bodies = Bodies(10 * LIMIT)
    upload = Upload(bodies)
    upload.send(b'{"a": [' + b"1," * 100)
    await settle()
    assert (bodies.held, bodies.unread, bodies.served) == (OVERHEAD_BYTES + 207, 1, 0)
    upload.send(b"1]}", more=False)
    await settle()
    assert (bodies.unread, bodies.served) == (0, 1)
    assert bodies.held > OVERHEAD_BYTES + 210
    upload.released.set()
    assert orjson.loads(await upload.task) == {"a": [1] * 101}
    assert (bodies.held, bodies.served) == (0, 0)


async def test_an_upload_that_does_not_fit_is_refused_before_it_is_read() -> None:
    bodies = Bodies(4 * LIMIT)
    held = Upload(bodies)
    held.send(b"x" * LIMIT, more=False)
    await until(lambda: bodies.served == 1)
    refused = Upload(bodies, 3 * LIMIT, content_length=str(3 * LIMIT))
    with pytest.raises(Overloaded, match="try again") as caught:
        await refused.task
    assert caught.value.retry_after_s == 1
    held.released.set()
    await held.task
    assert bodies.held == 0


async def test_an_upload_of_unknown_length_is_refused_while_it_is_read() -> None:
    bodies = Bodies(4 * LIMIT)
    held = Upload(bodies)
    held.send(b"x" * LIMIT, more=False)
    await until(lambda: bodies.served == 1)
    upload = Upload(bodies, 3 * LIMIT)
    for _ in range(3):
        upload.send(b"x" * LIMIT)
    with pytest.raises(Overloaded):
        await upload.task
    assert bodies.unread == 0
    held.released.set()
    await held.task
    assert bodies.held == 0


@pytest.mark.parametrize("declared", [{}, {"content_length": str(3 * LIMIT)}])
async def test_a_body_larger_than_the_whole_budget_is_too_large(declared: dict[str, str]) -> None:
    upload = Upload(Bodies(2 * LIMIT), 5 * LIMIT, **declared)
    for _ in range(3):
        upload.send(b"x" * LIMIT)
    with pytest.raises(BodyTooLarge):
        await upload.task


async def test_unfinished_uploads_never_keep_a_small_request_out() -> None:
    bodies = Bodies(4 * LIMIT)
    uploads = [Upload(bodies) for _ in range(20)]
    for upload in uploads:
        upload.send(b"x" * (LIMIT - 1))
    await settle()
    assert bodies.held <= bodies.max_bytes
    for _ in range(20):
        small = Upload(bodies)
        small.send(BODY, more=False)
        small.released.set()
        assert await small.task == BODY
    for upload in uploads:
        upload.send(b"", more=False)
        upload.released.set()
    results = await asyncio.gather(*(u.task for u in uploads), return_exceptions=True)
    refused = [result for result in results if isinstance(result, Overloaded)]
    assert 16 <= len(refused) < 20
    assert bodies.held == 0


async def test_many_silent_uploads_are_displaced_by_new_requests(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(request_body, "SLOW_S", 0.0)
    bodies = Bodies(40 * OVERHEAD_BYTES)
    silent = [Upload(bodies, content_length="100") for _ in range(200)]
    await settle()
    small = Upload(bodies)
    small.send(BODY, more=False)
    small.released.set()
    assert await small.task == BODY
    assert bodies.unread < 40
    for upload in silent:
        upload.task.cancel()
    await asyncio.gather(*(u.task for u in silent), return_exceptions=True)
    assert bodies.held == 0


async def test_a_complete_body_is_never_displaced() -> None:
    bodies = Bodies(4 * LIMIT)
    held = Upload(bodies)
    held.send(b"x" * LIMIT, more=False)
    await until(lambda: bodies.served == 1)
    others = [Upload(bodies) for _ in range(30)]
    for other in others:
        other.send(b"x" * LIMIT, more=False)
        other.released.set()
    await asyncio.gather(*(o.task for o in others), return_exceptions=True)
    held.released.set()
    assert len(await held.task) == LIMIT


@pytest.mark.usefixtures("quick")
async def test_a_body_that_arrives_too_slowly_is_refused() -> None:
    bodies = Bodies(4 * LIMIT)
    upload = Upload(bodies)

    async def drip() -> None:
        while not upload.task.done():
            upload.send(b"x")
            await asyncio.sleep(0.02)

    dripping = asyncio.create_task(drip())
    with pytest.raises(BodyTooSlow, match="too slowly"):
        await upload.task
    await dripping
    assert (bodies.held, bodies.unread) == (0, 0)


async def test_empty_messages_are_not_progress_and_let_others_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Time to read the messages even on a busy machine.
    monkeypatch.setattr(request_body, "PACE_S", 2.0)
    upload = Upload(Bodies(4 * LIMIT))
    for _ in range(10_000):
        upload.send(b"")
    turns = 0
    while not upload.messages.empty() and not upload.task.done():
        turns += 1
        await asyncio.sleep(0)
    assert turns > 100
    with pytest.raises(BodyTooSlow):
        await upload.task


@pytest.mark.usefixtures("quick")
async def test_a_body_that_keeps_the_pace_may_take_longer() -> None:
    upload = Upload(Bodies(4 * LIMIT))
    for _ in range(8):
        upload.send(b"x" * 10)
        await asyncio.sleep(0.02)
    upload.send(b"", more=False)
    upload.released.set()
    assert await upload.task == b"x" * 80


async def test_the_clients_own_deadline_ends_an_upload() -> None:
    bodies = Bodies(LIMIT)
    upload = Upload(bodies)
    upload.deadline = Deadline.after(0.02).at
    with pytest.raises(DeadlineExceeded):
        await upload.task
    assert bodies.held == 0


async def test_a_client_that_leaves_while_it_uploads_is_no_failure_of_the_service() -> None:
    bodies = Bodies(LIMIT)
    upload = Upload(bodies)
    upload.send(b"x")
    upload.messages.put_nowait({"type": "http.disconnect"})
    with pytest.raises(ClientDisconnected) as caught:
        await upload.task
    assert caught.value.status == 499
    assert bodies.held == 0


async def test_a_small_body_that_decompresses_to_a_large_one_counts_as_that() -> None:
    bodies = Bodies(4 * LIMIT)
    upload = Upload(bodies, content_encoding="gzip")
    upload.send(gzip.compress(b" " * LIMIT), more=False)
    await until(lambda: bodies.served == 1)
    assert bodies.held > LIMIT
    upload.released.set()
    await upload.task


async def test_a_body_that_could_never_be_parsed_within_the_budget_is_too_large() -> None:
    upload = Upload(Bodies(8 * LIMIT))
    upload.send(b"[" + b"[]," * (LIMIT // 4) + b"0]", more=False)
    with pytest.raises(BodyTooLarge, match="too many values"):
        await upload.task


@pytest.mark.parametrize(
    "unit",
    [
        "[]",
        "{}",
        "0",
        "1.5",
        '"a"',
        '"abc"',
        '{"a":0}',
        '{"ab":"cd","e":1}',
        "[[[[]]]]",
        '"a plain text, and some more of it"',
        '"a text with one \U0001f600 in it and more"',
        '"escaped \\ud83d\\ude00 and more text after it"',
        '"\u4e00\u4e01\u4e02"',
        '"\\u4e00 and then some ordinary text"',
    ],
)
def test_the_parsed_size_is_an_upper_estimate_of_what_is_allocated(unit: str) -> None:
    body = f"[{','.join([unit] * 20_000)}]".encode()
    tracemalloc.start()
    try:
        parsed = orjson.loads(body)
        allocated = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert parsed
    assert allocated <= parsed_size(body) - len(body)


def asgi_messages(*bodies: bytes) -> Callable[[], Any]:
    waiting = [{"type": "http.request", "body": b, "more_body": True} for b in bodies]

    async def receive() -> dict[str, Any]:
        if not waiting:
            await asyncio.Event().wait()
        return waiting.pop(0)

    return receive


async def post(front: FakeFrontend, path: str, receive: Any, **headers: str) -> dict[str, Any]:
    """Post to the app over ASGI; returns its first message with the body."""
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    names = [(name.replace("_", "-").encode(), v.encode()) for name, v in headers.items()]
    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": names,
        "http_version": "1.1",
        "scheme": "http",
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }
    await make_app(lambda: front)(scope, receive, send)
    assert sent
    return {**sent[0], "body": sent[1]["body"], "headers": dict(sent[0]["headers"])}


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.usefixtures("quick")
async def test_a_slow_body_is_reported_in_every_format_and_closes_the_connection(path: str) -> None:
    front = FakeFrontend()
    answer = await post(front, path.replace("{model:path}", "m"), asgi_messages(b'{"query": '))
    assert answer["status"] == 408
    assert answer["headers"][b"connection"] == b"close"
    assert b"too slowly" in answer["body"]
    assert orjson.loads(answer["body"])


@pytest.mark.parametrize("path", ROUTES)
async def test_a_full_budget_is_reported_in_every_format(path: str) -> None:
    front = FakeFrontend()
    front.bodies.held = front.bodies.max_bytes - 50_000
    path = path.replace("{model:path}", "m")
    answer = await post(front, path, asgi_messages(), content_length="90000")
    assert answer["status"] == 429
    assert answer["headers"][b"retry-after"] == b"1"
    assert b"try again" in answer["body"]


async def test_unread_bodies_do_not_count_against_requests_being_served() -> None:
    front = FakeFrontend()
    front.max_in_flight = 1
    slow = [asyncio.create_task(post(front, "/rerank", asgi_messages(b"{"))) for _ in range(50)]
    await until(lambda: front.bodies.unread == 50)
    async with front.client() as client:
        assert (await client.post("/rerank", content=BODY)).status_code == 200
        front.backend.gate.clear()
        waiting = asyncio.create_task(client.post("/rerank", content=BODY.replace(b"a", b"b")))
        await until(lambda: front.bodies.served == 1)
        assert (await client.post("/rerank", content=BODY)).status_code == 429
        front.backend.gate.set()
        await waiting
    for task in slow:
        task.cancel()
    await asyncio.gather(*slow, return_exceptions=True)
    assert (front.bodies.held, front.bodies.unread, front.in_flight) == (0, 0, 0)


async def test_a_waiting_request_does_not_keep_the_parts_of_its_body_that_it_ignores() -> None:
    front = FakeFrontend()
    front.backend.gate.clear()
    content = orjson.dumps({"query": "a", "documents": ["a"], "other": [[]] * 100_000})
    tracemalloc.start()
    try:
        async with front.client() as client:
            waiting = asyncio.create_task(client.post("/rerank", content=content))
            await until(lambda: bool(front.backend.timeouts))
            held, peak = tracemalloc.get_traced_memory()
            assert peak > 5_000_000
            assert held < 2_000_000
            front.backend.gate.set()
            assert (await waiting).status_code == 200
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("fields", "small"),
    [({}, True), ({"documents": [{"text": "a", "more": [1]}]}, False)],
    ids=["texts", "objects, which are returned"],
)
async def test_a_waiting_request_counts_what_it_keeps(fields: dict[str, Any], small: bool) -> None:
    front = FakeFrontend()
    front.backend.gate.clear()
    body = {"query": "a", "documents": ["a"], "other": [[]] * 100_000, **fields}
    async with front.client() as client:
        waiting = asyncio.create_task(client.post("/rerank", content=orjson.dumps(body)))
        await until(lambda: bool(front.backend.timeouts))
        assert (front.bodies.held < OVERHEAD_BYTES + 1000) == small
        front.backend.gate.set()
        assert (await waiting).status_code == 200
    assert front.bodies.held == 0


async def test_a_client_that_leaves_while_it_uploads_is_recorded_as_499(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    front = FakeFrontend()
    answer = await post(front, "/v2/rerank", receive)
    assert answer["status"] == 499
    assert front.telemetry.snapshot().http == {("v2", 499): 1}
    assert not [record for record in caplog.records if record.levelno > logging.INFO]
