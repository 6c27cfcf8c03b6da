"""Cold start of a model scaled to zero: a request that starts a replica, and a cached one.

Starts `rerank up` with `min_replicas: 0` twice; the second time, the converted model is on disk.
Run: `make bench NAME=cold_start`. Prints a Markdown table of seconds per request.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import httpx

from benchmarks import servers

MODEL = "ServeReplica:rerank:Model"
DOCUMENTS = ["Pandas strip bamboo.", "Stock prices fell."]
SCALE_DOWN_TIMEOUT_S = 120
SCALE_TO_ZERO = {
    "RERANKER_MIN_REPLICAS": "0",
    "RERANKER_MAX_REPLICAS": "1",
    "RERANKER_DOWNSCALE_TO_ZERO_DELAY": "3",
    "RERANKER_DOWNSCALE_DELAY": "3",
}


def replicas(session: int) -> int:
    """Count the running model replicas."""
    found = 0
    for pid, _ in servers.processes(session):
        try:
            found += MODEL in Path(f"/proc/{pid}/cmdline").read_text()
        except OSError:
            continue
    return found


def request_s(url: str, query: str) -> float:
    """Send a request and return its duration in seconds."""
    started = time.perf_counter()
    body = {"query": query, "documents": DOCUMENTS}
    httpx.post(f"{url}/v1/rerank", json=body, timeout=180, trust_env=False).raise_for_status()
    return time.perf_counter() - started


def wait_for_scale_down(session: int) -> None:
    """Wait until no replica is running."""
    deadline = time.monotonic() + SCALE_DOWN_TIMEOUT_S
    while replicas(session):
        if time.monotonic() > deadline:
            raise SystemExit(f"replicas are still running after {SCALE_DOWN_TIMEOUT_S} s")
        time.sleep(0.5)


def main() -> None:
    """Print a Markdown table of seconds per request."""
    print("| converted model | first request s | warm s | cold s | cold, cached s |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        env = {**SCALE_TO_ZERO, "RERANKER_CONVERSIONS": folder}
        for state in ("not on disk", "on disk"):
            with servers.running(servers.rerank_up, env, "/v1/models") as server:
                times = [request_s(server.url, "first"), request_s(server.url, "warm")]
                wait_for_scale_down(server.session)
                times.append(request_s(server.url, "cold"))
                wait_for_scale_down(server.session)
                times.append(request_s(server.url, "cold"))
            print(f"| {state} | " + " | ".join(f"{s:.3f}" for s in times) + " |", flush=True)


if __name__ == "__main__":
    main()
