"""Turns on a replica: a large request's chunks one after the other, so that others fit between."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

# Seconds after the last call beside another query's, until a query is alone.
CALM_S = 2.0


class _Gate:
    """The calls of one query that are in the batch queue, and those that wait for it."""

    def __init__(self, at_once: Callable[[], int]) -> None:
        self._at_once = at_once
        self._inside = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def enter(self) -> None:
        if self._inside < self._at_once() and not self._waiting:
            self._inside += 1
            return
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(ready)
        try:
            await ready
        except asyncio.CancelledError:
            if not ready.cancelled():
                self.leave()  # the place came in the same moment: give it on
            raise

    def leave(self) -> None:
        self._inside -= 1
        while self._waiting and self._inside < self._at_once():
            ready = self._waiting.popleft()
            if not ready.done():
                self._inside += 1
                ready.set_result(None)


class Turns:
    """Few large calls of one query are in a replica's batch queue together.

    The queue is first come, first served: without turns a short request would wait for every
    chunk that a large one has brought before it. Small calls take no turn, so they merge.
    """

    def __init__(
        self, large: int, *, shared: int, alone: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`large`: tokens from which on a call takes a turn. So many calls of one query are in
        the queue together: `shared` beside other queries, `alone` where no other one has come
        for a while, since larger batches run faster."""
        self._large = large
        self._shared = shared
        self._alone = alone
        self._clock = clock
        self._calls: Counter[str] = Counter()
        self._together_at = float("-inf")
        self._gates: WeakValueDictionary[str, _Gate] = WeakValueDictionary()

    @asynccontextmanager
    async def turn(self, query: str, tokens: int) -> AsyncIterator[None]:
        """Wait for the query's earlier chunks, if the call is large."""
        self._calls[query] += 1
        if len(self._calls) > 1:
            self._together_at = self._clock()
        try:
            if tokens < self._large:
                yield
            else:
                async with self._inside(query):
                    yield
        finally:
            self._calls[query] -= 1
            if not self._calls[query]:
                del self._calls[query]

    @asynccontextmanager
    async def _inside(self, query: str) -> AsyncIterator[None]:
        gate = self._gates.get(query)
        if gate is None:
            gate = self._gates[query] = _Gate(self._at_once)
        await gate.enter()
        try:
            yield
        finally:
            gate.leave()

    def _at_once(self) -> int:
        calm = self._clock() - self._together_at > CALM_S
        return self._alone if calm else self._shared
