"""Single flight: pairs that are being scored are waited for, not scored again."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence

from models.types import Score
from serve_app.service.deadline import Deadline

ScoreMany = Callable[[Sequence[bytes]], Awaitable[dict[bytes, Score]]]
# Told also until when somebody waits for the scores.
ScoreUntil = Callable[[Sequence[bytes], Deadline], Awaitable[dict[bytes, Score]]]


class _Flight:
    """One scoring task, how many requests wait for it, and the latest of their deadlines."""

    def __init__(self, task: asyncio.Task[dict[bytes, Score]], deadline: Deadline) -> None:
        self.task = task
        self.deadline = deadline
        self.waiters = 0

    @property
    def can_be_joined(self) -> bool:
        # A task that everybody left is being cancelled, though not done yet.
        return not self.task.done() and self.waiters > 0

    def leave(self) -> None:
        self.waiters -= 1
        # Nobody is left who wants the answer: don't spend a forward pass on it.
        if self.waiters == 0:
            self.task.cancel()


class SingleFlight:
    """Scores keys in tasks of their own, so that a request that goes away takes no other's
    answer with it."""

    def __init__(self) -> None:
        self._flights: dict[bytes, _Flight] = {}
        # Flights that ended: tells a caller whether what it looked up may be out of date.
        self.landed = 0

    async def run(
        self, keys: Sequence[bytes], score: ScoreUntil, deadline: float = math.inf
    ) -> tuple[dict[bytes, Score], int]:
        """Scores of all keys, and how many of them another request was scoring already.

        `score` is called once, with the keys that nobody scores yet and a deadline that moves
        when requests with a later one than `deadline` join. Its exception is raised in every
        request that waits for it.
        """
        if not keys:
            return {}, 0
        flights: dict[_Flight, None] = {}
        mine: list[bytes] = []
        for key in keys:
            flight = self._flights.get(key)
            if flight is None or not flight.can_be_joined:
                mine.append(key)
            else:
                flight.deadline.extend(deadline)
                flights[flight] = None
        if mine:
            flights[self._start(mine, score, Deadline(deadline))] = None
        answers = await _wait(list(flights))
        return {key: answers[key] for key in keys}, len(keys) - len(mine)

    def _start(self, keys: Sequence[bytes], score: ScoreUntil, deadline: Deadline) -> _Flight:
        async def fly() -> dict[bytes, Score]:
            return await score(keys, deadline)

        flight = _Flight(asyncio.get_running_loop().create_task(fly()), deadline)
        self._flights.update(dict.fromkeys(keys, flight))
        flight.task.add_done_callback(lambda task: self._land(keys, flight))
        return flight

    def _land(self, keys: Sequence[bytes], flight: _Flight) -> None:
        self.landed += 1
        for key in keys:
            if self._flights.get(key) is flight:
                del self._flights[key]
        if not flight.task.cancelled():
            flight.task.exception()  # read, so that asyncio does not warn about it


async def _wait(flights: Sequence[_Flight]) -> dict[bytes, Score]:
    for flight in flights:
        flight.waiters += 1
    try:
        # Unlike gather, wait leaves the tasks alone when the one who waits is cancelled.
        tasks = [flight.task for flight in flights]
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
        return {key: score for task in tasks for key, score in task.result().items()}
    finally:
        for flight in flights:
            flight.leave()
