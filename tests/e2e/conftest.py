"""A real service, started as a user starts it, shared by the tests that only talk to it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.e2e.flaky import Flaky, flaky

START_TIMEOUT_S = 120.0
# What clients would otherwise fetch or report when they are imported.
os.environ |= {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "HAYSTACK_TELEMETRY_ENABLED": "False",
    "AGNO_TELEMETRY": "false",
}


@dataclass
class Service:
    url: str
    process: subprocess.Popen[bytes]
    log: Path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def environment(**extra: str) -> dict[str, str]:
    """This process's environment without settings of the service's, plus `extra`."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("RERANKER_")}
    return {**kept, "HF_HUB_OFFLINE": "1", **extra}


def start(log: Path, **settings: str) -> Service:
    """`rerank up` on a free port; returns once /ready answers 200."""
    port = free_port()
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "serve_app.cli", "up"],
            env=environment(PORT=str(port), XDG_STATE_HOME=str(log.parent), **settings),
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{url}/ready", timeout=5).status_code == 200:
                return Service(url, process, log)
        except httpx.HTTPError:
            time.sleep(0.2)
    process.kill()
    raise AssertionError(f"the service did not start:\n{log.read_text(errors='replace')}")


def stop(service: Service, timeout_s: float = 60) -> int:
    service.process.terminate()
    return service.process.wait(timeout_s)


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    running = start(tmp_path_factory.mktemp("service") / "log")
    yield running
    stop(running)


@pytest.fixture(scope="session")
def url(request: pytest.FixtureRequest) -> str:
    """Where the service is: one that runs already, where the environment names it."""
    if running := os.environ.get("RERANK_E2E_URL"):
        return running
    service: Service = request.getfixturevalue("service")
    return service.url


@pytest.fixture
def proxy(url: str) -> Iterator[Flaky]:
    """The service behind a proxy that fails as it is told to."""
    with flaky(url) as running:
        yield running


@pytest.fixture(scope="session")
def client(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=60) as shared:
        yield shared
