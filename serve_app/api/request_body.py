"""Reading request bodies within limits: size, pace, and bytes held by all requests together."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.requests import Request
from starlette.types import Receive

from serve_app.api import compression
from serve_app.errors import NO_ANSWER, BodyTooLarge, BodyTooSlow, Overloaded, RerankError
from serve_app.service.deadline import within
from serve_app.types import RerankRequest

# This many bytes of a body, or the rest of it, must arrive within this many seconds.
PACE_BYTES = 256 * 1024
PACE_S = 10.0
# What a request costs besides its body: its tasks, its headers and the server's read buffer.
OVERHEAD_BYTES = 32 * 1024
# A body that takes longer than this to arrive may be displaced by a larger one, too.
SLOW_S = 1.0
# Bodies decompressed at once, since each may grow to the maximum size before it is charged.
MAX_DECODING = 4
# Larger bodies are examined in a thread.
THREAD_BYTES = 256 * 1024
# Messages after which the reader yields to other requests, even if the next one is already there.
YIELD_MESSAGES = 64

# Bytes that orjson needs per character of the body that starts or separates values, measured.
_PER_COMMA, _PER_QUOTE, _PER_LIST, _PER_OBJECT = 32, 32, 64, 192


class ClientDisconnected(RerankError):
    """The client disconnected while it was sending the body; nobody reads this error."""

    status = NO_ANSWER
    code = "client_disconnected"


def parsed_size(body: bytes) -> int:
    """An upper estimate of the bytes that the body and its parsed values take, in linear time."""
    # A text takes 1, 2 or 4 bytes per character, depending on the widest one.
    if any(mark in body for mark in (b"\xf0", b"\\ud", b"\\uD")):
        width = 4
    else:
        width = 1 if body.isascii() and b"\\u" not in body else 2
    return (
        len(body) * (1 + width)
        + body.count(b",") * _PER_COMMA
        + body.count(b'"') * _PER_QUOTE
        + body.count(b"[") * _PER_LIST
        + body.count(b"{") * _PER_OBJECT
    )


def _text_size(request: RerankRequest) -> int | None:
    """The bytes of the request's texts; None if it refers to other values of the body."""
    if request.originals is not None:
        return None
    size = sys.getsizeof(request.query)
    for document in request.documents:
        if not isinstance(document, str):
            return None
        size += sys.getsizeof(document)
    return size


class Bodies:
    """The bodies of one process's requests, which share a budget of bytes.

    A body counts as the bytes received until it is complete, then as its `parsed_size`, and once a
    dialect has read it as what its request keeps. If the
    budget is used up, a request may displace a slower or larger body that is still being received,
    so that unfinished uploads never keep small requests out.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.held = 0
        # Requests whose body is complete and whose response is not ready yet.
        self.served = 0
        self.decoding = asyncio.Semaphore(MAX_DECODING)
        self._unread: dict[Body, None] = {}

    @property
    def unread(self) -> int:
        """The number of bodies being received."""
        return len(self._unread)

    @contextmanager
    def body(self) -> Iterator[Body]:
        """A request's body; what it holds is released at the end of the block."""
        body = Body(self)
        try:
            yield body
        finally:
            body._finish()

    def _make_room(self, wanted: int, body: Body) -> None:
        """Displace other unfinished bodies if `wanted` more bytes do not fit. Raises Overloaded."""
        if self.held + wanted <= self.max_bytes:
            return
        slow = time.monotonic() - SLOW_S
        others = [
            other
            for other in self._unread
            if other is not body and (other.size >= body.size + wanted or other.since < slow)
        ]
        if self.held - sum(other.size for other in others) + wanted > self.max_bytes:
            raise self._overloaded()
        # Free more than is needed, so that not every request of a flood has to search again.
        goal = self.max_bytes - max(wanted, self.max_bytes // 16)
        for other in sorted(others, key=lambda other: other.size, reverse=True):
            if self.held <= goal:
                break
            other._displace()

    def _overloaded(self) -> Overloaded:
        return Overloaded(
            f"the service holds its maximum of {self.max_bytes} bytes of requests; try again in a "
            "moment"
        )


class Body:
    """One request's body: what it counts in the budget, and how it is received."""

    def __init__(self, bodies: Bodies) -> None:
        self.size = 0
        self.since = time.monotonic()
        self._bodies = bodies
        self._pace: asyncio.Timeout | None = None
        self._displaced = False
        self._served = False

    async def read(self, request: Request, limit: int, deadline: float) -> bytes:
        """Receive and decompress the body of at most `limit` bytes.

        `deadline`: time on the monotonic clock after which the client has stopped waiting.
        Raises BodyTooLarge as soon as the size is known, Overloaded if the budget is used up,
        BodyTooSlow, DeadlineExceeded, ClientDisconnected or MalformedBody.
        """
        encoding = compression.check_encoding(request.headers.get("content-encoding", ""))
        # A body larger than the whole budget can never be accepted, so no 429 with Retry-After.
        limit = min(limit, self._bodies.max_bytes - OVERHEAD_BYTES)
        declared = _declared(request.headers.get("content-length", ""), limit)
        self._bodies._make_room(OVERHEAD_BYTES + declared, self)
        self._resize(OVERHEAD_BYTES)
        async with within(deadline):
            content = await self._receive(request.receive, limit)
            if encoding:
                async with self._bodies.decoding:
                    content = await compression.decode(content, encoding, limit)
                    self._resize(OVERHEAD_BYTES + len(content))
            if len(content) > THREAD_BYTES:
                size = await asyncio.to_thread(parsed_size, content)
            else:
                size = parsed_size(content)
        if size + OVERHEAD_BYTES > self._bodies.max_bytes:
            raise BodyTooLarge(
                f"the body has too many values: parsed it would take about {size} bytes, and the "
                f"maximum is {self._bodies.max_bytes}; send fewer documents"
            )
        self._resize(OVERHEAD_BYTES + size)
        self._served = True
        self._bodies.served += 1
        return content

    def drop_unused(self, request: RerankRequest) -> None:
        """Count only the texts of the request from now on, if it keeps nothing else of the body."""
        if self.size > THREAD_BYTES and (size := _text_size(request)) is not None:
            self._resize(min(self.size, OVERHEAD_BYTES + size))

    async def _receive(self, receive: Receive, limit: int) -> bytes:
        content = bytearray()
        arrived = messages = 0
        loop = asyncio.get_running_loop()
        self._bodies._unread[self] = None
        try:
            async with asyncio.timeout(PACE_S) as self._pace:
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientDisconnected("the client disconnected before it sent the body")
                    chunk = message.get("body", b"")
                    if len(content) + len(chunk) > limit:
                        raise compression.too_large(limit)
                    self._resize(self.size + len(chunk))
                    content += chunk
                    arrived += len(chunk)
                    if arrived >= PACE_BYTES:
                        arrived = 0
                        self._pace.reschedule(loop.time() + PACE_S)
                    messages += 1
                    if messages % YIELD_MESSAGES == 0:
                        await asyncio.sleep(0)
                    more = message.get("more_body", False)
        except TimeoutError:
            if self._displaced:
                raise self._bodies._overloaded() from None
            raise BodyTooSlow(
                f"the body arrived too slowly: at least {PACE_BYTES} bytes or the rest of it must "
                f"arrive every {PACE_S:g} s"
            ) from None
        finally:
            self._bodies._unread.pop(self, None)
        return bytes(content)

    def _resize(self, size: int) -> None:
        """Count `size` bytes from now on. Raises Overloaded if they do not fit."""
        if size > self.size:
            self._bodies._make_room(size - self.size, self)
        self._bodies.held += size - self.size
        self.size = size

    def _displace(self) -> None:
        """Stop receiving the body, to make room for another one."""
        self._displaced = True
        self._bodies._unread.pop(self)
        self._resize(0)
        if self._pace is not None and not self._pace.expired():
            self._pace.reschedule(asyncio.get_running_loop().time())

    def _finish(self) -> None:
        self._resize(0)
        if self._served:
            self._served = False
            self._bodies.served -= 1


def _declared(header: str, limit: int) -> int:
    """The size in a Content-Length header, 0 if unknown. Raises BodyTooLarge if over the limit."""
    digits = header.lstrip("0")
    # Check the length first: int() refuses thousands of digits, and accepts superscripts.
    if not (digits.isascii() and digits.isdigit()):
        return 0
    if len(digits) > 18 or int(digits) > limit:
        raise compression.too_large(limit)
    return int(digits)
