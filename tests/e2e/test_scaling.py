"""A model that scales to zero, back up and out, on both traffic paths."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from benchmarks.servers import processes
from serve_app.deployments.proxy import choose
from tests.e2e.conftest import Service, kill, start, stop

pytestmark = pytest.mark.slow
TIMEOUT_S = 60.0
CACHED = {"query": "what do pandas eat", "documents": ["Stocks fell.", "Bamboo, for pandas."]}


@pytest.fixture(scope="module", params=["haproxy", "proxy"])
def sleepy(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """Zero to two replicas; the second one from two thousand waiting tokens."""
    if request.param == "haproxy" and not choose("auto").haproxy:
        pytest.skip(str(choose("auto")))
    running = start(
        tmp_path_factory.mktemp("sleepy") / "log",
        RERANKER_TRAFFIC=request.param,
        RERANKER_PROFILE="scale-to-zero",
        RERANKER_TARGET_TOKENS="2000",
        RERANKER_UPSCALE_DELAY="0",
        RERANKER_DOWNSCALE_DELAY="1",
        RERANKER_DOWNSCALE_TO_ZERO_DELAY="1",
    )
    yield running
    kill(running)


def replicas(service: Service) -> int:
    """The processes of the model, found by their names."""
    found = 0
    for pid, _ in processes(service.process.pid):
        with suppress(OSError):
            found += "ServeReplica:rerank:Model-0" in Path(f"/proc/{pid}/cmdline").read_text()
    return found


def wait_for(service: Service, number: int) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while replicas(service) != number:
        assert time.monotonic() < deadline, service.log.read_text()
        time.sleep(0.2)


def post(service: Service, body: dict[str, object]) -> httpx.Response:
    return httpx.post(f"{service.url}/rerank", json=body, timeout=TIMEOUT_S)


def test_at_zero_replicas_cached_scores_are_served_and_others_start_a_replica(
    sleepy: Service,
) -> None:
    first = post(sleepy, CACHED)
    assert first.status_code == 200
    wait_for(sleepy, 0)
    assert httpx.get(f"{sleepy.url}/ready").status_code == 200
    again = post(sleepy, CACHED)
    assert (again.status_code, again.json()["results"]) == (200, first.json()["results"])
    assert replicas(sleepy) == 0
    started = time.perf_counter()
    woken = post(sleepy, {**CACHED, "query": "what fell"})
    assert woken.status_code == 200
    assert woken.json()["results"][0]["index"] == 0
    print(f"cold start: {time.perf_counter() - started:.1f} s")
    for line in sleepy.log.read_text().splitlines():
        if " is ready in " in line:
            print(line)


def test_many_pending_tokens_start_a_second_replica(sleepy: Service) -> None:
    stopped = threading.Event()

    def load() -> None:
        number = 0
        while not stopped.is_set():
            number += 1
            documents = [f"document {number} {i} with words to read " * 6 for i in range(200)]
            post(sleepy, {"query": "which one?", "documents": documents})

    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        wait_for(sleepy, 2)
    finally:
        stopped.set()
        for thread in threads:
            thread.join(TIMEOUT_S)


def test_two_ingress_replicas_share_metrics_and_stop_together(tmp_path: Path) -> None:
    service = start(tmp_path / "log", RERANKER_INGRESS_REPLICAS="2")
    try:
        for i in range(12):
            # One connection each, since HAProxy and the proxy distribute connections.
            assert post(service, {**CACHED, "query": f"q {i}"}).status_code == 200
        figures = httpx.get(f"{service.url}/metrics", timeout=TIMEOUT_S).json()
        assert figures["total_requests"] >= 6, "the other ingress reports within seconds"
    finally:
        assert stop(service) == 0
    assert "draining failed" not in service.log.read_text()
