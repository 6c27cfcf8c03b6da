"""Latency of a request that wakes a sleeping model, and of one that the score store answers.

`rerank up` with `min_replicas: 0` is started twice, so that the second start has the converted
model on disk. Run: `make bench NAME=cold_start`.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import httpx

from benchmarks import servers

MODEL = "ServeReplica:rerank:Model"
DOCUMENTS = ["Pandas strip bamboo.", "Stock prices fell."]
ASLEEP_WITHIN_S = 120
SLEEPY = {
    "RERANKER_MIN_REPLICAS": "0",
    "RERANKER_MAX_REPLICAS": "1",
    "RERANKER_DOWNSCALE_TO_ZERO_DELAY": "3",
    "RERANKER_DOWNSCALE_DELAY": "3",
}


def replicas(session: int) -> int:
    """Model replicas that live."""
    found = 0
    for pid, _ in servers.processes(session):
        try:
            found += MODEL in Path(f"/proc/{pid}/cmdline").read_text()
        except OSError:
            continue
    return found


def ask_s(url: str, query: str) -> float:
    """Seconds until the answer."""
    began = time.perf_counter()
    body = {"query": query, "documents": DOCUMENTS}
    httpx.post(f"{url}/v1/rerank", json=body, timeout=180, trust_env=False).raise_for_status()
    return time.perf_counter() - began


def sleep(session: int) -> None:
    """Wait until no replica lives."""
    until = time.monotonic() + ASLEEP_WITHIN_S
    while replicas(session):
        if time.monotonic() > until:
            raise SystemExit("the model does not go to sleep")
        time.sleep(0.5)


def main() -> None:
    """Print a Markdown table, in seconds."""
    print("| converted model | first request | warm | woken | cached, asleep |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        env = {**SLEEPY, "RERANKER_CONVERSIONS": folder}
        for kept in ("not yet", "on disk"):
            with servers.running(servers.rerank_up, env, "/v1/models") as server:
                took = [ask_s(server.url, "first"), ask_s(server.url, "warm")]
                sleep(server.session)
                took.append(ask_s(server.url, "woken"))
                sleep(server.session)
                took.append(ask_s(server.url, "woken"))
            print(f"| {kept} | " + " | ".join(f"{s:.3f}" for s in took) + " |", flush=True)


if __name__ == "__main__":
    main()
