"""What waiting for another server's score saves, and what asking the shared store costs.

Two services over one Redis, each with a model that takes a fixed time per row and scores one row
at a time. Run: `redis-server --port 6399 --save ''`, then
`make bench NAME=shared_store BENCH_ARGS=redis://127.0.0.1:6399/0`.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import statistics
import time
import uuid

from models.types import DEFAULTS, Document, ModelInfo, Score, ScoreOptions
from serve_app.admission import Admission
from serve_app.cache import MemoryStore
from serve_app.cache.redis import RedisStore
from serve_app.cache.tiered import TieredStore
from serve_app.catalog import Catalog
from serve_app.service import RerankService
from serve_app.telemetry import Telemetry
from serve_app.types import RerankRequest

INFO = ModelInfo("m", "", "", "", "", "cpu", "", 512, "identity", False, 2048)
DOCUMENTS = [f"document {i} of some length, with words in it" for i in range(100)]


class Model:
    """Takes `row_s` seconds a row."""

    def __init__(self, row_s: float) -> None:
        self.rows = 0
        self._row_s = row_s
        self._busy = asyncio.Lock()

    async def info(self) -> ModelInfo:
        return INFO

    async def score(
        self,
        query: str,
        documents: list[Document],
        options: ScoreOptions = DEFAULTS,
        timeout_s: float = math.inf,
    ) -> list[Score]:
        self.rows += len(documents)
        async with self._busy:
            await asyncio.sleep(self._row_s * len(documents))
        return [Score(float(len(document)), 8) for document in documents]


async def _turn(url: str, wait_s: float, row_s: float, same: bool, requests: int) -> str:
    """Each request goes to both servers at once: the same one, or one that no other asks."""
    models, services, stores = [], [], []
    version = uuid.uuid4().hex
    for _ in range(2):
        memory = MemoryStore(2**26, 60)
        shared = RedisStore(url, version=version, ttl_s=60, on_found=memory.put_many)
        stores.append(TieredStore(memory, shared, wait_s))
        models.append(Model(row_s))
        services.append(
            RerankService(
                catalog=Catalog(("m",), "m", {}),
                backends={"m": models[-1]},
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
        late = row_s * len(DOCUMENTS) / 4
        await asyncio.gather(
            *(ask(s, q, j * late) for j, (s, q) in enumerate(zip(services, queries, strict=True)))
        )
    for store in stores:
        await store.close()
    rows = sum(model.rows for model in models)
    return f"{rows:6} rows, median {statistics.median(times):7.2f} ms, last {max(times):7.2f} ms"


async def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--requests", type=int, default=20)
    options = parser.parse_args()
    for row_ms in (0.1, 1.0, 5.0):
        for same in (True, False):
            for wait_s in (0.0, 1.0):
                told = await _turn(options.url, wait_s, row_ms / 1000, same, options.requests)
                what = "the same request" if same else "different requests"
                how = "waits" if wait_s else "does not wait"
                print(f"{row_ms:4} ms a row, {what:18} at both, {how:13}: {told}", flush=True)


if __name__ == "__main__":
    asyncio.run(_main())
