"""Fair sharing of a replica's batch queue between queries."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

# Seconds without calls of another query until a query counts as alone.
ALONE_AFTER_S = 2.0


class _QuerySlots:
    """The calls of one query that are in the batch queue, and those waiting to enter it."""

    def __init__(self, limit: Callable[[], int]) -> None:
        self._limit = limit
        self._inside = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def enter(self) -> None:
        if self._inside < self._limit() and not self._waiting:
            self._inside += 1
            return
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(ready)
        try:
            await ready
        except asyncio.CancelledError:
            if not ready.cancelled():
                self.leave()  # cancelled just after getting the slot: pass it on
            raise

    def leave(self) -> None:
        self._inside -= 1
        while self._waiting and self._inside < self._limit():
            ready = self._waiting.popleft()
            if not ready.done():
                self._inside += 1
                ready.set_result(None)


class FairQueue:
    """Limits how many large calls of one query are in a replica's batch queue at a time.

    The batch queue is first come, first served: without the limit a short request would wait for
    all chunks of a large request that arrived before it. Small calls are not limited, so that they
    merge into batches.
    """

    def __init__(
        self, large: int, *, shared: int, alone: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`large`: number of tokens from which a call is limited. At most `shared` calls of one
        query are in the queue while other queries are, and `alone` calls if there has been no
        other query for a while, since larger batches run faster."""
        self._large = large
        self._shared = shared
        self._alone = alone
        self._clock = clock
        self._calls: Counter[str] = Counter()
        self._last_shared = float("-inf")
        self._slots: WeakValueDictionary[str, _QuerySlots] = WeakValueDictionary()

    @asynccontextmanager
    async def slot(self, query: str, tokens: int) -> AsyncIterator[None]:
        """Hold a place in the batch queue; a large call first waits for a free slot."""
        self._calls[query] += 1
        if len(self._calls) > 1:
            self._last_shared = self._clock()
        try:
            if tokens < self._large:
                yield
            else:
                async with self._limited(query):
                    yield
        finally:
            self._calls[query] -= 1
            if not self._calls[query]:
                del self._calls[query]

    @asynccontextmanager
    async def _limited(self, query: str) -> AsyncIterator[None]:
        slots = self._slots.get(query)
        if slots is None:
            slots = self._slots[query] = _QuerySlots(self._limit)
        await slots.enter()
        try:
            yield
        finally:
            slots.leave()

    def _limit(self) -> int:
        is_alone = self._clock() - self._last_shared > ALONE_AFTER_S
        return self._alone if is_alone else self._shared
