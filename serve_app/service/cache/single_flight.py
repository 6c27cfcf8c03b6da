"""Single flight: a request waits for pairs that are already being scored."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence

from models.types import Score
from serve_app.service.deadline import Deadline

ScoreMany = Callable[[Sequence[bytes]], Awaitable[dict[bytes, Score]]]
# The deadline is the latest of all requests that wait for the scores.
ScoreUntil = Callable[[Sequence[bytes], Deadline], Awaitable[dict[bytes, Score]]]


class _Flight:
    """One scoring task, how many requests wait for it, and the latest of their deadlines."""

    def __init__(self, task: asyncio.Task[dict[bytes, Score]], deadline: Deadline) -> None:
        self.task = task
        self.deadline = deadline
        self.waiters = 0

    @property
    def can_be_joined(self) -> bool:
        # A task without waiters is being cancelled, even if it is not done yet.
        return not self.task.done() and self.waiters > 0

    def leave(self) -> None:
        self.waiters -= 1
        # Nobody waits for the result any more: do not spend a forward pass on it.
        if self.waiters == 0:
            self.task.cancel()


class SingleFlight:
    """Scores keys in separate tasks, so that cancelling a request does not affect others."""

    def __init__(self) -> None:
        self._flights: dict[bytes, _Flight] = {}
        # Number of flights completed. If it changed, an earlier look-up may be out of date.
        self.completed = 0

    async def run(
        self, keys: Sequence[bytes], score: ScoreUntil, deadline: float = math.inf
    ) -> tuple[dict[bytes, Score], int]:
        """Return the scores of all keys, and how many of them were already being scored.

        `score` is called once, with the keys that nobody is scoring yet and a deadline that is
        extended when requests with a later deadline join. Its exception is raised in every
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
        async def score_keys() -> dict[bytes, Score]:
            return await score(keys, deadline)

        flight = _Flight(asyncio.get_running_loop().create_task(score_keys()), deadline)
        self._flights.update(dict.fromkeys(keys, flight))
        flight.task.add_done_callback(lambda task: self._finish(keys, flight))
        return flight

    def _finish(self, keys: Sequence[bytes], flight: _Flight) -> None:
        self.completed += 1
        for key in keys:
            if self._flights.get(key) is flight:
                del self._flights[key]
        if not flight.task.cancelled():
            flight.task.exception()  # retrieved, so that asyncio does not log it


async def _wait(flights: Sequence[_Flight]) -> dict[bytes, Score]:
    for flight in flights:
        flight.waiters += 1
    try:
        # Unlike gather, wait does not cancel the tasks when the waiting task is cancelled.
        tasks = [flight.task for flight in flights]
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
        return {key: score for task in tasks for key, score in task.result().items()}
    finally:
        for flight in flights:
            flight.leave()
