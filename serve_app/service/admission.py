"""How many requests are worked on at once, how many may wait, and for how long."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from serve_app.errors import Overloaded, QueueTimeout, RerankError, ShuttingDown

# Longer than that no client should be told to wait: by then other replicas may have started.
MAX_RETRY_AFTER_S = 30
# The newest request's part in what a slot is held for lately.
RECENT = 0.05


class _Waiter:
    """A place in the queue: less priority goes first, then who came first."""

    __slots__ = ("place", "ready")

    def __init__(self, priority: int, number: int) -> None:
        self.place = (priority, number)
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def __lt__(self, other: _Waiter) -> bool:
        return self.place < other.place


class Admission:
    """By priority, then first come, first served; what is over a bound is refused at once."""

    def __init__(self, max_parallel: int, max_queue: int, queue_timeout_s: float) -> None:
        self.max_parallel = max_parallel
        self.max_queue = max_queue
        self.active = 0
        self.closed = False
        self._timeout_s = queue_timeout_s
        self._waiters: list[_Waiter] = []  # a heap
        self._numbers = itertools.count()
        self._held_s = 0.0  # how long a slot is held, lately

    @property
    def waiting(self) -> int:
        return len(self._waiters)

    @property
    def available_slots(self) -> int:
        return self.max_parallel - self.active

    @asynccontextmanager
    async def slot(self, priority: int = 0) -> AsyncIterator[float]:
        """Hold one of the slots inside the block; yields the seconds waited for it.

        `priority` 0 goes before 1 wherever requests wait. Raises Overloaded when the queue is
        full of requests that go before this one, or gets full of them; QueueTimeout;
        ShuttingDown. The error's `queued_s` has the seconds waited.
        """
        if self.closed:
            raise ShuttingDown("the service is stopping; send the request to another one")
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
            self._note(time.perf_counter() - held)
            self._release()

    @property
    def retry_after_s(self) -> int:
        """Whole seconds until the queue as it is now is worked off, as lately; 1 to 30."""
        seconds = (self.waiting + 1) * self._held_s / self.max_parallel
        return min(MAX_RETRY_AFTER_S, max(1, math.ceil(seconds)))

    def _note(self, held_s: float) -> None:
        self._held_s += (held_s - self._held_s) * (RECENT if self._held_s else 1)

    async def _wait(self, priority: int) -> None:
        waiter = _Waiter(priority, next(self._numbers))
        if len(self._waiters) >= self.max_queue:
            self._make_room(waiter)
        heapq.heappush(self._waiters, waiter)
        try:
            await asyncio.wait_for(asyncio.shield(waiter.ready), self._timeout_s)
        except BaseException as error:
            if not waiter.ready.done():
                self._remove(waiter)
                waiter.ready.cancel()
            elif waiter.ready.exception() is None:
                # The slot was handed over in the same moment: give it on.
                self._release()
            if isinstance(error, TimeoutError):
                late = QueueTimeout(
                    f"the request waited {self._timeout_s:g} s without being scored; try again"
                )
                late.retry_after_s = self.retry_after_s
                raise late from None
            raise

    def refusal(self) -> Overloaded:
        """What the next one is told while there is no room."""
        full = Overloaded(
            f"{self.active} requests are scored and {self.waiting} wait, which is the limit; "
            "try again in a moment"
        )
        full.retry_after_s = self.retry_after_s
        return full

    def _make_room(self, waiter: _Waiter) -> None:
        """Refuse the last in the queue for one that goes before it."""
        full = self.refusal()
        last = max(self._waiters, default=waiter)
        if last.place[0] <= waiter.place[0]:
            raise full
        self._remove(last)
        last.ready.set_exception(full)

    def _remove(self, waiter: _Waiter) -> None:
        self._waiters.remove(waiter)
        heapq.heapify(self._waiters)

    def _release(self) -> None:
        if self._waiters:
            # The slot goes from hand to hand, so that no newcomer slips in between.
            heapq.heappop(self._waiters).ready.set_result(None)
        else:
            self.active -= 1

    def close(self) -> None:
        """Refuse new requests; those that wait or are scored go on."""
        self.closed = True

    async def drain(self, timeout_s: float) -> bool:
        """Wait until nothing is in flight; False when `timeout_s` passes first."""
        deadline = time.monotonic() + timeout_s
        while self.active or self._waiters:
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.01)
        return True
