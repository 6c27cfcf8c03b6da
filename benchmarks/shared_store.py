"""The gain and cost of waiting for scores that another server is already computing.

Runs two services on one Redis, each with a model that takes a fixed time per pair and scores one
request at a time. Both get the same request, or different ones, a quarter of its time apart.
Run: `redis-server --port 6399 --save ''`, then
`make bench NAME=shared_store BENCH_ARGS=redis://127.0.0.1:6399/0`. Prints for each model speed the
pairs scored and the latency, with waiting and without.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import statistics
import time
import uuid

from models.types import DEFAULTS, Document, ModelInfo, Score, ScoreOptions, ScoringError
from models.vectors import Vectors
from serve_app.service.admission import Admission
from serve_app.service.cache import MemoryStore
from serve_app.service.cache.redis import RedisStore
from serve_app.service.cache.tiered import TieredStore
from serve_app.service.catalog import Catalog
from serve_app.service.rerank import RerankService
from serve_app.telemetry import Telemetry
from serve_app.types import RerankRequest

INFO = ModelInfo("m", "", "", "", "", "cpu", "", 512, "identity", False, 2048)
DOCUMENTS = [f"document {i} of some length, with words in it" for i in range(100)]


class Model:
    """A model that takes `pair_s` seconds per pair."""

    def __init__(self, pair_s: float) -> None:
        self.pairs = 0
        self._pair_s = pair_s
        self._busy = asyncio.Lock()

    async def info(self) -> ModelInfo:
        return INFO

    async def score(
        self,
        query: str,
        documents: list[Document],
        options: ScoreOptions = DEFAULTS,
        timeout_s: float = math.inf,
        alone: bool = False,
    ) -> list[Score]:
        self.pairs += len(documents)
        async with self._busy:
            await asyncio.sleep(self._pair_s * len(documents))
        return [Score(float(len(document)), 8) for document in documents]

    async def embed(self, documents: list[Document], options: ScoreOptions) -> Vectors:
        raise ScoringError("this model has no embeddings")


async def _measure(url: str, wait_s: float, pair_s: float, same: bool, requests: int) -> str:
    """Send each server a request, the same one or different ones, and describe the result."""
    models, services, stores = [], [], []
    version = uuid.uuid4().hex
    for _ in range(2):
        memory = MemoryStore(2**26, 60)
        shared = RedisStore(url, version=version, ttl_s=60, on_found=memory.put_many)
        stores.append(TieredStore(memory, shared, wait_s))
        models.append(Model(pair_s))
        services.append(
            RerankService(
                catalog=Catalog(("m",), "m", {}),
                replicas={"m": models[-1]},
                store=stores[-1],
                admission=Admission(64, 64, 30),
                telemetry=Telemetry(),
            )
        )
    times = []

    async def ask(service: RerankService, query: str, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        started = time.perf_counter()
        await service.rerank(RerankRequest(query, tuple(DOCUMENTS)))
        times.append((time.perf_counter() - started) * 1000)

    for i in range(requests):
        queries = [f"q {i}" if same else f"q {i} {j}" for j in range(2)]
        delay = pair_s * len(DOCUMENTS) / 4
        await asyncio.gather(
            *(ask(s, q, j * delay) for j, (s, q) in enumerate(zip(services, queries, strict=True)))
        )
    for store in stores:
        await store.close()
    pairs = sum(model.pairs for model in models)
    return f"{pairs:6} pairs, median {statistics.median(times):7.2f} ms, max {max(times):7.2f} ms"


async def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", help="URL of a Redis server")
    parser.add_argument(
        "--requests", type=int, default=20, help="requests per server (default: %(default)s)"
    )
    options = parser.parse_args()
    for pair_ms in (0.1, 1.0, 5.0):
        for same in (True, False):
            for wait_s in (0.0, 1.0):
                found = await _measure(options.url, wait_s, pair_ms / 1000, same, options.requests)
                requests = "same request" if same else "different requests"
                waiting = "waiting" if wait_s else "not waiting"
                print(f"{pair_ms:4} ms/pair, {requests:18}, {waiting:11}: {found}", flush=True)


if __name__ == "__main__":
    asyncio.run(_main())
