"""A server that keeps what it gets, and answers with given bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


@asynccontextmanager
async def byte_server(answer: bytes | None) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Yield the URL and what each connection sent. With None, it only reads until the end."""
    seen: list[bytes] = []
    ended: list[asyncio.Task[None] | None] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ended.append(asyncio.current_task())
        got = b""
        try:
            with suppress(OSError):
                while part := await reader.read(2**16):
                    got += part
                    if answer is not None and b"\r\n\r\n" in got[:-1]:
                        writer.write(answer)
                        break
        finally:
            seen.append(got)
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", seen
        await asyncio.gather(*(task for task in ended if task is not None))
