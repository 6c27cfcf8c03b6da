"""HTTP/1.1 byte by byte, for requests that no HTTP library would send."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import orjson

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
NO_ANSWER = "closed"
TIMED_OUT = "timed out"
MAX_HEAD_BYTES = 1 << 20


@dataclass(frozen=True)
class Request:
    """A request; `headers` replace or extend those that every request has."""

    path: str
    body: bytes
    headers: Mapping[str, bytes] = field(default_factory=dict)
    method: str = "POST"

    @staticmethod
    def json(path: str, body: object, **headers: bytes) -> Request:
        return Request(path, orjson.dumps(body), headers)

    @property
    def head(self) -> bytes:
        headers = {
            "host": b"localhost",
            "content-type": b"application/json",
            "content-length": str(len(self.body)).encode(),
            "connection": b"close",
            **self.headers,
        }
        lines = [name.encode() + b": " + value for name, value in headers.items()]
        start = f"{self.method} {self.path} HTTP/1.1".encode()
        return b"\r\n".join([start, *lines]) + b"\r\n\r\n"


@dataclass(frozen=True)
class Response:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> object:
        return orjson.loads(self.body)


@asynccontextmanager
async def connection(url: str) -> AsyncIterator[Connection]:
    """Open a connection, and reset it at the end. Raises OSError if it is refused."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=MAX_HEAD_BYTES)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()


async def exchange(url: str, request: Request, timeout_s: float) -> Response:
    """Send a request over a connection of its own.

    Raises OSError or EOFError if the connection closes without a response, TimeoutError if there
    is none in time.
    """
    async with asyncio.timeout(timeout_s), connection(url) as (reader, writer):
        # Not drained: a server may respond before it has read the whole body.
        writer.write(request.head)
        writer.write(request.body)
        return await read(reader)


async def read(reader: asyncio.StreamReader) -> Response:
    """Read a response. Raises OSError or EOFError if the connection closes before it is whole."""
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {
        name.lower(): value.strip()
        for name, _, value in (line.partition(":") for line in lines[1:] if line)
    }
    if "content-length" in headers:
        body = await reader.readexactly(int(headers["content-length"]))
    elif "chunked" in headers.get("transfer-encoding", ""):
        body = await _read_chunks(reader)
    else:
        body = await reader.read()
    if headers.get("content-encoding") == "gzip":
        body = gzip.decompress(body)
    return Response(int(lines[0].split()[1]), headers, body)


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    parts: list[bytes] = []
    while size := int(await reader.readuntil(b"\r\n"), 16):
        parts.append(await reader.readexactly(size))
        await reader.readexactly(2)
    await reader.readuntil(b"\r\n")
    return b"".join(parts)


async def outcome(url: str, request: Request, timeout_s: float) -> str:
    """Return the status of the response as text, `closed` or `timed out`."""
    try:
        return str((await exchange(url, request, timeout_s)).status)
    except TimeoutError:
        return TIMED_OUT
    except (OSError, EOFError, ValueError, zlib.error):
        return NO_ANSWER
