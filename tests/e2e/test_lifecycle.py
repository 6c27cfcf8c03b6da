"""Starting, failing to start, and stopping, as seen by a user."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest

from serve_app.cli import run_folder
from serve_app.cli.processes import marked
from serve_app.deployments.ports import free_port
from tests.e2e.conftest import environment, exposed, run_folder_of, start
from tests.waiting import until


@pytest.mark.parametrize("path", ["auto", pytest.param("proxy", marks=pytest.mark.slow)])
def test_sigterm_finishes_requests_in_flight_and_leaves_no_process(
    tmp_path: Path, path: str
) -> None:
    service = start(tmp_path / "log", RERANKER_TRAFFIC=path)
    folder = run_folder_of(service)
    documents = [f"document number {i} with some words to read " * 8 for i in range(600)]
    statuses: list[int] = []

    def send() -> None:
        body = {"query": "which one?", "documents": documents}
        statuses.append(httpx.post(f"{service.url}/rerank", json=body, timeout=60).status_code)

    thread = threading.Thread(target=send)
    thread.start()
    deadline = 100
    while deadline and httpx.get(f"{service.url}/health").json()["controller"]["active"] == 0:
        deadline -= 1
    # As systemd, `timeout` and a closed terminal do.
    os.killpg(service.process.pid, signal.SIGTERM)
    refused = _first_refusal(service.url)
    thread.join(60)
    assert statuses == [200]
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "shutting_down")
    assert int(refused.headers["retry-after"]) > 0
    assert service.process.wait(60) == 0, service.log.read_text()
    assert folder not in marked()
    assert not folder.exists()


async def test_nobody_else_can_reach_into_a_running_service_and_nothing_survives_it(
    tmp_path: Path,
) -> None:
    service = start(tmp_path / "log", RERANKER_TRAFFIC="auto")
    port = int(service.url.rsplit(":", 1)[1])
    folder = run_folder_of(service)
    members = marked()[folder]
    # The calls between replicas, for which Ray has no address setting; they need Ray's token.
    assert all(name.startswith("ray::ServeReplica") for name, _ in exposed(service))
    assert "gRPC ports listen on all interfaces" in service.log.read_text()
    assert folder.stat().st_mode & 0o777 == 0o700
    (admin,) = folder.glob("*/admin.sock")
    assert admin.stat().st_mode & 0o777 == 0o600
    assert "Permission denied" in _ask(admin, "set maxconn global 1")
    assert (folder / "token").stat().st_mode & 0o777 == 0o600

    (haproxy,) = (m for m in members if "bin/haproxy" in " ".join(m.cmdline()))
    haproxy.kill()
    await until(lambda: _ranks(service.url), 60)

    service.process.kill()
    await until(lambda: folder not in marked() and not folder.exists(), 30)
    service.process.wait()
    again = start(tmp_path / "log", port)
    assert _ranks(again.url)

    folder = run_folder_of(again)
    (raylet,) = (m for m in marked()[folder] if m.name() == "raylet")
    raylet.kill()
    assert again.process.wait(30) == 1
    assert "raylet (process" in again.log.read_text()
    assert folder not in marked()
    assert run_folder.clear_abandoned() != []
    assert not folder.exists()


def _ask(socket_path: Path, command: str) -> str:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(socket_path))
        connection.sendall(f"{command}\n".encode())
        return connection.recv(1000).decode()


def _ranks(url: str) -> bool:
    body = {"query": "q", "documents": ["d"]}
    try:
        return httpx.post(f"{url}/rerank", json=body, timeout=10).status_code == 200
    except httpx.HTTPError:
        return False


def _first_refusal(url: str) -> httpx.Response:
    """The response to a new request after the shutdown has started."""
    for _ in range(100):
        answer = httpx.post(f"{url}/rerank", json={"query": "q", "documents": ["d"]}, timeout=60)
        if answer.status_code != 200:
            break
    return answer


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"RERANKER_LOCAL_MODEL_PATH": "/no/such/folder"}, "/no/such/folder"),
        ({"RERANKER_MODEL": "no-such-org/no-such-model"}, "no-such-org/no-such-model"),
        ({"RERANKER_MAX_PARALLEL": "many"}, "RERANKER_MAX_PARALLEL"),
        ({"RERANKER_MAX_PARALEL": "3"}, "RERANKER_MAX_PARALEL"),
        ({"RERANKER_PROFILE": "prod"}, "production"),
        ({"RERANKER_NUM_CPUS": "5000"}, "5000 CPU"),
    ],
)
def test_a_failed_start_reports_the_reason_once(
    tmp_path: Path, settings: dict[str, str], expected: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "serve_app", "up"],
        env=environment(PORT=str(free_port()), XDG_STATE_HOME=str(tmp_path), **settings),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("rerank: ")
    assert expected in last
    assert "Traceback" not in last


def test_daemon_status_logs_down(tmp_path: Path) -> None:
    env = environment(PORT=str(free_port()), XDG_STATE_HOME=str(tmp_path))

    def rerank(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "serve_app", *words],
            env=env,
            capture_output=True,
            text=True,
            timeout=180,
        )

    assert "no service is running" in rerank("status").stderr
    up = rerank("up", "--daemon")
    assert up.returncode == 0, up.stderr
    try:
        assert ": ok" in rerank("status").stdout
        assert "already running" in rerank("up").stderr
        assert "ready at" in rerank("logs").stdout
    finally:
        assert rerank("down").returncode == 0
    assert rerank("down").returncode == 1


def test_score_ranks_a_file_without_a_server(tmp_path: Path) -> None:
    (tmp_path / "docs.txt").write_text("Stock prices fell.\n\nPandas eat bamboo.\n")
    done = subprocess.run(
        [sys.executable, "-m", "serve_app", "score", "what do pandas eat", "docs.txt"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].endswith("Pandas eat bamboo.")
