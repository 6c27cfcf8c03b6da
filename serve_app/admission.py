"""How many requests are worked on at once, how many may wait, and for how long."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from serve_app.errors import Overloaded, QueueTimeout, ShuttingDown


class Admission:
    """First come, first served; what is over a bound is refused at once."""

    def __init__(self, max_parallel: int, max_queue: int, queue_timeout_s: float) -> None:
        self.max_parallel = max_parallel
        self.max_queue = max_queue
        self.active = 0
        self.closed = False
        self._timeout_s = queue_timeout_s
        self._waiters: deque[asyncio.Future[None]] = deque()

    @property
    def waiting(self) -> int:
        return len(self._waiters)

    @property
    def available_slots(self) -> int:
        return self.max_parallel - self.active

    @asynccontextmanager
    async def slot(self, on_wait: Callable[[float], None] | None = None) -> AsyncIterator[float]:
        """Hold one of the slots; gives the seconds waited for it.

        `on_wait` gets the seconds also where the wait ends in an error. Raises Overloaded when
        the queue is full, QueueTimeout, or ShuttingDown.
        """
        if self.closed:
            raise ShuttingDown("the service is stopping; send the request to another one")
        started = time.perf_counter()
        try:
            if self.active < self.max_parallel and not self._waiters:
                self.active += 1
            else:
                await self._wait()
        finally:
            waited_s = time.perf_counter() - started
            if on_wait is not None:
                on_wait(waited_s)
        try:
            yield waited_s
        finally:
            self._release()

    async def _wait(self) -> None:
        if len(self._waiters) >= self.max_queue:
            raise Overloaded(
                f"{self.active} requests are scored and {self.waiting} wait, which is the limit; "
                "try again in a moment"
            )
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(turn)
        try:
            await asyncio.wait_for(asyncio.shield(turn), self._timeout_s)
        except BaseException as error:
            if turn.done():
                # The slot was handed over in the same moment: give it on.
                self._release()
            else:
                self._waiters.remove(turn)
                turn.cancel()
            if isinstance(error, TimeoutError):
                raise QueueTimeout(
                    f"the request waited {self._timeout_s:g} s without being scored; try again"
                ) from None
            raise

    def _release(self) -> None:
        if self._waiters:
            # The slot goes from hand to hand, so that no newcomer slips in between.
            self._waiters.popleft().set_result(None)
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
