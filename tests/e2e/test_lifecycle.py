"""Starting, failing to start, and stopping, as seen by a user."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest

from serve_app.deployments.ports import free_port
from tests.e2e.conftest import environment, start


def _session_processes(session: int) -> list[str]:
    """The command lines of this session's processes, except zombies."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
            command = (stat.parent / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(command)
    return found


@pytest.mark.parametrize("path", ["auto", pytest.param("proxy", marks=pytest.mark.slow)])
def test_sigterm_finishes_requests_in_flight_and_leaves_no_process(
    tmp_path: Path, path: str
) -> None:
    service = start(tmp_path / "log", RERANKER_TRAFFIC=path)
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
    service.process.terminate()
    refused = _first_refusal(service.url)
    thread.join(60)
    assert statuses == [200]
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "shutting_down")
    assert int(refused.headers["retry-after"]) > 0
    assert service.process.wait(60) == 0, service.log.read_text()
    assert _session_processes(service.process.pid) == []


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
