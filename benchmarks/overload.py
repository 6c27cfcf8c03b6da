"""The service under overload: goodput, latency and rejected requests by load.

Measures the saturation rate with a closed loop of clients, then sends requests at 0.5, 1, 2 and 3
times that rate in an open loop, at random times regardless of earlier responses. The model only
sleeps, depending on its documents' length, so that the service itself is measured.
Run: `make bench NAME=overload`. Prints a Markdown table with a row for each load.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import random
import statistics
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field

import orjson

from benchmarks import servers
from benchmarks.lean_client import LeanClient

LOADS = (0.5, 1.0, 2.0, 3.0)
DOCUMENTS = 20
CHARS = 400
PARALLEL = 16
HEAD = "| load | offered/s | goodput/s | p50 ms | p99 ms | rejected | other | CPU s/s |"
_numbers = itertools.count()


@dataclass
class Seen:
    """The seconds of accepted requests, and the number of responses by status or error."""

    accepted: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)


def body() -> bytes:
    number = next(_numbers)
    texts = [f"{number} {i} ".ljust(CHARS, "x") for i in range(DOCUMENTS)]
    return orjson.dumps({"query": f"q {number}", "documents": texts})


async def ask(client: LeanClient, seen: Seen) -> None:
    started = time.perf_counter()
    try:
        status, headers = await client.post(body())
    except (OSError, asyncio.IncompleteReadError) as error:
        seen.statuses[type(error).__name__] += 1
        return
    seen.statuses[str(status)] += 1
    if status == 200:
        seen.accepted.append(time.perf_counter() - started)
    elif status == 429 and int(headers["retry-after"]) < 1:
        raise SystemExit("a 429 response has no usable Retry-After")


async def saturation(client: LeanClient, seconds: float) -> float:
    """Measure requests per second with every slot in use and none rejected."""
    seen, end = Seen(), time.perf_counter() + seconds

    async def work() -> None:
        while time.perf_counter() < end:
            await ask(client, seen)

    await asyncio.gather(*(work() for _ in range(PARALLEL)))
    return len(seen.accepted) / seconds


async def offered(client: LeanClient, rate: float, seconds: float) -> Seen:
    """Send requests as a Poisson process of that rate, and wait for every response."""
    seen, tasks = Seen(), []
    due, end = time.perf_counter(), time.perf_counter() + seconds
    while due < end:
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        tasks.append(asyncio.create_task(ask(client, seen)))
        due += random.expovariate(rate)
    await asyncio.gather(*tasks)
    return seen


async def measure(server: servers.Server, seconds: float, queue: int) -> None:
    client = LeanClient(f"{server.url}/v1/rerank")
    with closing(client):
        await saturation(client, 2)
        peak = await saturation(client, seconds)
        drain_ms = 1000 * (PARALLEL + queue) / peak
        print(f"saturation: {peak:.1f} requests/s; a full queue takes {drain_ms:.0f} ms to drain\n")
        print(HEAD + "\n" + "|---" * HEAD.count(" | ") + "|---|", flush=True)
        for load in LOADS:
            server.settle(10)
            before, started = server.cpu_s(), time.perf_counter()
            seen = await offered(client, load * peak, seconds)
            took = time.perf_counter() - started
            print(f"| {load:g} | {load * peak:.0f} | {cells(seen, took)}", end="")
            print(f" | {(server.cpu_s() - before) / took:.2f} |", flush=True)


def cells(seen: Seen, took: float) -> str:
    percentiles = statistics.quantiles(seen.accepted, n=100)
    rejected = seen.statuses["429"]
    other = sum(seen.statuses.values()) - rejected - len(seen.accepted)
    texts = [f"{len(seen.accepted) / took:.1f}"]
    texts += [f"{1000 * percentiles[i]:.0f}" for i in (49, 98)]
    return " | ".join([*texts, str(rejected), str(other)])


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20, help="per load (default: %(default)g)")
    parser.add_argument(
        "--model-ms", type=float, default=12, help="model time per request (default: %(default)g)"
    )
    parser.add_argument(
        "--queue", type=int, default=64, help="RERANKER_MAX_QUEUE (default: %(default)s)"
    )
    options = parser.parse_args()
    random.seed(7)
    env = {
        "RERANKER_MAX_PARALLEL": str(PARALLEL),
        "RERANKER_MAX_QUEUE": str(options.queue),
        "WAITING_SECONDS_PER_TOKEN": f"{options.model_ms / 1000 / (DOCUMENTS * CHARS / 4):.8f}",
    }
    with servers.running(servers.waiting, env) as server:
        asyncio.run(measure(server, options.seconds, options.queue))


if __name__ == "__main__":
    main()
