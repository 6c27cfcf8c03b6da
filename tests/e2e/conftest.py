"""Real services, started as a user would start them.

`service` is one `rerank up` with default settings and the embedded model, started once for this
folder by each test process. Use it (or `url`, `client`, `proxy`) in every test that only sends
requests. Such tests must not change the service, and must expect other tests' requests in its
metrics.

A test that needs other settings, or that stops or breaks the service, calls `start` and `stop`
itself. Each takes ten seconds on an idle machine, so share the service within the file through a
module-scoped fixture, and check first whether another file's service can be used.

Tests that use the shared service run last in this folder, so that it does not run idle next to
others.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from benchmarks.servers import processes
from serve_app.cli.processes import marked
from serve_app.deployments.ports import free_port
from tests.connections import closed_connections as closed_connections
from tests.e2e.flaky import Flaky, flaky

START_TIMEOUT_S = 120.0
# Prevents clients from fetching data or reporting usage on import.
os.environ |= {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "HAYSTACK_TELEMETRY_ENABLED": "False",
    "AGNO_TELEMETRY": "false",
}
# The fixtures that use the shared service.
SHARED = {"service", "url", "client", "proxy"}
FOLDER = Path(__file__).parent


def _shares(item: pytest.Item) -> bool:
    return bool(SHARED & set(getattr(item, "fixturenames", ())))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the tests of the shared service together, after the others in this folder.

    The folder itself keeps its place among the first, so that no long file runs at the end.
    """
    here = iter(sorted((item for item in items if FOLDER in item.path.parents), key=_shares))
    items[:] = [next(here) if FOLDER in item.path.parents else item for item in items]


@dataclass
class Service:
    url: str
    process: subprocess.Popen[bytes]
    log: Path


def environment(**extra: str) -> dict[str, str]:
    """This process's environment without the service's settings, plus `extra`."""
    # The number of threads is for the test process only; Ray sets it for replicas.
    kept = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith("RERANKER_") and k != "OMP_NUM_THREADS"
    }
    return {**kept, "HF_HUB_OFFLINE": "1", **extra}


def start(log: Path, port: int | None = None, **settings: str) -> Service:
    """Start `rerank up`, by default on a free port; return once /ready answers 200."""
    port = port or free_port()
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "serve_app", "up"],
            env=environment(PORT=str(port), XDG_STATE_HOME=str(log.parent), **settings),
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    service = Service(f"http://127.0.0.1:{port}", process, log)
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{service.url}/ready", timeout=5).status_code == 200:
                return service
        except httpx.HTTPError:
            time.sleep(0.2)
    kill(service)
    raise AssertionError(f"the service did not start:\n{log.read_text(errors='replace')}")


def run_folder_of(service: Service) -> Path:
    """The run folder of a running service."""
    (folder,) = (
        path
        for path, members in marked().items()
        if any(member.ppid() == service.process.pid for member in members)
    )
    return folder


def exposed(service: Service) -> set[tuple[str, int]]:
    """Process name and port of what listens on other addresses than the loopback interface's."""
    return {
        (member.name(), connection.laddr.port)
        for member in marked()[run_folder_of(service)]
        for connection in member.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
        and not connection.laddr.ip.removeprefix("::ffff:").startswith("127.")
    }


def stop(service: Service, timeout_s: float = 60) -> int:
    """Stop it as a user does, which takes seconds; returns the exit status."""
    service.process.terminate()
    return service.process.wait(timeout_s)


def kill(service: Service) -> None:
    """End all of its processes at once, for tests that are not about how it stops."""
    while found := [pid for pid, fields in processes(service.process.pid) if fields[0] != "Z"]:
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    service.process.wait()


@pytest.fixture(scope="package")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    running = start(tmp_path_factory.mktemp("service") / "log")
    yield running
    kill(running)


@pytest.fixture(scope="package")
def url(request: pytest.FixtureRequest) -> str:
    """The service's URL; the environment can name one that is already running."""
    if running := os.environ.get("RERANK_E2E_URL"):
        return running
    service: Service = request.getfixturevalue("service")
    return service.url


@pytest.fixture
def proxy(url: str) -> Iterator[Flaky]:
    """The service behind a proxy that fails on demand."""
    with flaky(url) as running:
        yield running


@pytest.fixture(scope="package")
def client(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=60) as shared:
        yield shared
