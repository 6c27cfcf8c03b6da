"""A large request on one replica and on two, and small requests that run at the same time.

Each replica has one CPU and one thread.
Run: `make bench NAME=large`. Prints for each number of replicas: the large request's
seconds, and p50 and p99 of small requests without and with the large one running.
"""

from __future__ import annotations

import argparse
import random
import statistics
import threading
import time

import httpx

from benchmarks import servers

WORDS = ("model", "query", "document", "score", "rank", "search", "index", "engine")
SMALL = 10
RUNS = 3


def texts(count: int) -> list[str]:
    """Generate uncached documents of 10 to 60 words."""
    return [" ".join(random.choices(WORDS, k=random.randint(10, 60))) for _ in range(count)]


def post(client: httpx.Client, count: int) -> float:
    """Send a request of new documents and return its seconds."""
    body = {"query": f"which one {random.random()}", "documents": texts(count)}
    started = time.perf_counter()
    client.post("/rerank", json=body).raise_for_status()
    return time.perf_counter() - started


def small_times(client: httpx.Client, number: int, pause_s: float) -> list[float]:
    """Send small requests one at a time and return their seconds."""
    times = []
    for _ in range(number):
        times.append(post(client, SMALL))
        time.sleep(pause_s)
    return times


def times_during_large(url: str, documents: int, pause_s: float) -> list[float]:
    """Return the seconds of small requests that run while a large one is scored."""
    done = threading.Event()

    def large() -> None:
        with httpx.Client(base_url=url, timeout=300, trust_env=False) as own:
            post(own, documents)
        done.set()

    times: list[float] = []
    thread = threading.Thread(target=large)
    thread.start()
    time.sleep(0.3)  # until the large request is parsed and split into chunks
    with httpx.Client(base_url=url, timeout=300, trust_env=False) as client:
        while not done.is_set():
            times += small_times(client, 1, pause_s)
    thread.join()
    return times


def p99(times: list[float]) -> float:
    return sorted(times)[min(len(times) - 1, int(len(times) * 0.99))]


def main() -> None:
    """Print the results for each number of replicas."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--documents",
        type=int,
        default=1000,
        help="documents in the large request (default: %(default)s)",
    )
    parser.add_argument(
        "--replicas", type=int, nargs="+", default=(1, 2), help="numbers to try (default: 1 2)"
    )
    parser.add_argument(
        "--waiting", action="store_true", help="use a model that only sleeps, and needs no CPU"
    )
    options = parser.parse_args()
    documents, command = options.documents, servers.rerank_up
    extra = {"RERANKER_NUM_CPUS": "1"}
    if options.waiting:
        command, extra = servers.waiting, {"WAITING_SECONDS_PER_TOKEN": "0.0001"}
    alone: dict[int, float] = {}
    for replicas in options.replicas:
        env = {**extra, "RERANKER_NUM_REPLICAS": str(replicas)}
        with (
            servers.running(command, env) as server,
            httpx.Client(base_url=server.url, timeout=300, trust_env=False) as client,
        ):
            post(client, 50)
            alone[replicas] = statistics.median(post(client, documents) for _ in range(RUNS))
            print(
                f"{replicas} replica(s), {documents} documents: {alone[replicas]:.2f} s", flush=True
            )
            quiet = small_times(client, 60, 0.05)
            busy = [t for _ in range(RUNS) for t in times_during_large(server.url, documents, 0.05)]
            for name, times in (("alone", quiet), ("during the large request", busy)):
                median = statistics.median(times) * 1000
                print(
                    f"  {SMALL} documents {name}: p50 {median:.0f} ms, "
                    f"p99 {p99(times) * 1000:.0f} ms ({len(times)} requests)",
                    flush=True,
                )
            print(f"  p99 ratio, during / alone: {p99(busy) / p99(quiet):.2f}", flush=True)
    if {1, 2} <= set(alone):
        print(f"two replicas take {alone[2] / alone[1]:.0%} of one replica's time")


if __name__ == "__main__":
    main()
