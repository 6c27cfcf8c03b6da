"""Services that share one Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from serve_app.service.cache import MemoryStore
from serve_app.service.cache.redis import RedisStore
from serve_app.service.cache.tiered import TieredStore
from serve_app.service.rerank import RerankService
from serve_app.types import RerankRequest
from tests.serve_app.fakes import WordOverlap, make_service

# Generous for a local Redis, because the CPU is shared with other tests.
READ_S = 0.25


class Server:
    """A service with a memory and a Redis tier, and its fake backend."""

    def __init__(self, url: str, *, wait_s: float = 1.0, **options: Any) -> None:
        memory = MemoryStore(2**24, 60)
        options = {"read_s": READ_S, "version": "1", **options}
        self.redis = RedisStore(url, on_found=memory.put_many, **options)
        self.store = TieredStore(memory, self.redis, wait_s)
        self.backend = WordOverlap()
        self.service: RerankService = make_service(self.backend, store=self.store)

    async def logits(self, *documents: str, query: str = "a b c") -> list[float]:
        """Return the scores in the documents' order."""
        result = await self.service.rerank(RerankRequest(query, documents))
        return [r.logit for r in sorted(result.results, key=lambda r: r.index)]

    def count(self, what: str) -> int:
        return self.store.shared_stats().get(what, 0)


@asynccontextmanager
async def serving(*urls: str, **options: Any) -> AsyncIterator[list[Server]]:
    servers = [Server(url, **options) for url in urls]
    try:
        yield servers
    finally:
        for one in servers:
            await one.store.close()
