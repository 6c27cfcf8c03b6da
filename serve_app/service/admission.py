"""Admission: how many requests run at once, how many may wait, and for how long."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from serve_app.errors import Overloaded, QueueTimeout, RerankError, ShuttingDown

# Maximum Retry-After: by then other replicas may have started.
MAX_RETRY_AFTER_S = 30
# Weight of the latest request in the moving average of how long a slot is held.
RECENT_WEIGHT = 0.05
SHUTTING_DOWN = "the service is shutting down; send the request to another instance"


class _Waiter:
    """A place in the queue: lower priority numbers first, then first come, first served."""

    __slots__ = ("place", "ready")

    def __init__(self, priority: int, number: int) -> None:
        self.place = (priority, number)
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def __lt__(self, other: _Waiter) -> bool:
        return self.place < other.place


class Admission:
    """A bounded number of slots and a bounded queue for them, ordered by priority and arrival."""

    def __init__(self, max_parallel: int, max_queue: int, queue_timeout_s: float) -> None:
        self.max_parallel = max_parallel
        self.max_queue = max_queue
        self.active = 0
        self.closed = False
        self._timeout_s = queue_timeout_s
        self._waiters: list[_Waiter] = []  # a heap
        self._numbers = itertools.count()
        self._held_s = 0.0  # moving average of how long a slot is held

    @property
    def waiting(self) -> int:
        return len(self._waiters)

    @property
    def available_slots(self) -> int:
        return self.max_parallel - self.active

    @asynccontextmanager
    async def slot(self, priority: int = 0) -> AsyncIterator[float]:
        """Hold a slot inside the block; yields the seconds waited for it.

        Requests with a lower `priority` number are served first. Raises Overloaded if the queue
        is full, or if requests with a lower number displace this one; QueueTimeout;
        ShuttingDown. The error's `queued_s` has the seconds waited.
        """
        if self.closed:
            raise ShuttingDown(SHUTTING_DOWN)
        started = time.perf_counter()
        try:
            if self.active < self.max_parallel and not self._waiters:
                self.active += 1
            else:
                await self._wait(priority)
        except RerankError as error:
            error.queued_s = time.perf_counter() - started
            raise
        waited_s = time.perf_counter() - started
        held = time.perf_counter()
        try:
            yield waited_s
        finally:
            self._record_hold(time.perf_counter() - held)
            self._release()

    def check(self, priority: int = 0) -> None:
        """Raise ShuttingDown or Overloaded if `slot` would now; takes neither slot nor place."""
        if self.closed:
            raise ShuttingDown(SHUTTING_DOWN)
        waits = self.active >= self.max_parallel or self._waiters
        if waits and len(self._waiters) >= self.max_queue:
            self._last_after(priority)

    @property
    def retry_after_s(self) -> int:
        """Estimated seconds until the current queue is empty, from 1 to 30."""
        seconds = (self.waiting + 1) * self._held_s / self.max_parallel
        return min(MAX_RETRY_AFTER_S, max(1, math.ceil(seconds)))

    def _record_hold(self, held_s: float) -> None:
        self._held_s += (held_s - self._held_s) * (RECENT_WEIGHT if self._held_s else 1)

    async def _wait(self, priority: int) -> None:
        waiter = _Waiter(priority, next(self._numbers))
        if len(self._waiters) >= self.max_queue:
            self._displace_last(waiter)
        heapq.heappush(self._waiters, waiter)
        try:
            await asyncio.wait_for(asyncio.shield(waiter.ready), self._timeout_s)
        except BaseException as error:
            if not waiter.ready.done():
                self._remove(waiter)
                waiter.ready.cancel()
            elif waiter.ready.exception() is None:
                # The slot was handed over at the same moment: pass it on.
                self._release()
            if isinstance(error, TimeoutError):
                late = QueueTimeout(
                    f"the request timed out after {self._timeout_s:g} s in the queue; try again"
                )
                late.retry_after_s = self.retry_after_s
                raise late from None
            raise

    def refusal(self) -> Overloaded:
        """Return the error for a request that finds the queue full."""
        full = Overloaded(
            f"the queue is full: {self.active} requests are being scored and {self.waiting} are "
            "waiting; try again in a moment"
        )
        full.retry_after_s = self.retry_after_s
        return full

    def _displace_last(self, waiter: _Waiter) -> None:
        """Refuse the last request in the queue if `waiter` has priority over it, else `waiter`."""
        last = self._last_after(waiter.place[0])
        full = self.refusal()
        self._remove(last)
        last.ready.set_exception(full)

    def _last_after(self, priority: int) -> _Waiter:
        """Return the last request in the queue. Raises Overloaded unless `priority` is before."""
        last = max(self._waiters, default=None)
        if last is None or last.place[0] <= priority:
            raise self.refusal()
        return last

    def _remove(self, waiter: _Waiter) -> None:
        self._waiters.remove(waiter)
        heapq.heapify(self._waiters)

    def _release(self) -> None:
        if self._waiters:
            # Hand the slot over directly, so that a new request cannot take it first.
            heapq.heappop(self._waiters).ready.set_result(None)
        else:
            self.active -= 1

    def close(self) -> None:
        """Refuse new requests; those waiting or running continue."""
        self.closed = True

    async def drain(self, timeout_s: float) -> bool:
        """Wait until nothing is in flight. Returns False if that takes longer than `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while self.active or self._waiters:
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.01)
        return True
