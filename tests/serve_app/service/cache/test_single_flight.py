"""Concurrent requests for the same keys share one scoring task."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from models.types import Score
from serve_app.service.cache import SingleFlight
from serve_app.service.deadline import Deadline
from tests.waiting import settle


async def test_a_failure_reaches_every_waiter_and_the_key_can_be_scored_again() -> None:
    flights = SingleFlight()

    async def fail(keys: object, until: Deadline) -> dict[bytes, Score]:
        await settle()
        raise ConnectionError("gone")

    async def work(keys: Sequence[bytes], until: Deadline) -> dict[bytes, Score]:
        return {key: Score(1, 1) for key in keys}

    outcomes = await asyncio.gather(
        *(flights.run([b"k"], fail) for _ in range(3)), return_exceptions=True
    )
    assert all(isinstance(outcome, ConnectionError) for outcome in outcomes)
    assert await flights.run([b"k"], work) == ({b"k": Score(1, 1)}, 0)
    assert flights.completed == 2


async def test_requests_for_overlapping_keys_score_each_key_once() -> None:
    flights, calls, gate = SingleFlight(), [], asyncio.Event()

    async def score(keys: Sequence[bytes], until: Deadline) -> dict[bytes, Score]:
        calls.append(list(keys))
        await gate.wait()
        return {key: Score(key[0], 1) for key in keys}

    first = asyncio.create_task(flights.run([b"a", b"b"], score))
    await asyncio.sleep(0)
    second = asyncio.create_task(flights.run([b"b", b"c"], score))
    await settle()
    gate.set()
    assert (await first)[1] == 0
    assert await second == ({b"b": Score(98, 1), b"c": Score(99, 1)}, 1)
    assert calls == [[b"a", b"b"], [b"c"]]


async def test_a_task_is_cancelled_when_its_last_waiter_leaves() -> None:
    flights, cancelled = SingleFlight(), []

    async def score(keys: Sequence[bytes], until: Deadline) -> dict[bytes, Score]:
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            cancelled.append(list(keys))
            raise
        return {}

    waiters = [asyncio.create_task(flights.run([b"a"], score)) for _ in range(2)]
    await settle()
    waiters[0].cancel()
    await settle()
    assert cancelled == []
    waiters[1].cancel()
    await settle()
    assert cancelled == [[b"a"]]


async def test_a_later_request_extends_the_deadline() -> None:
    flights, deadlines, gate = SingleFlight(), [], asyncio.Event()

    async def score(keys: Sequence[bytes], until: Deadline) -> dict[bytes, Score]:
        deadlines.append(until)
        await gate.wait()
        return {key: Score(1, 1) for key in keys}

    tasks = [asyncio.create_task(flights.run([b"a"], score, at)) for at in (10.0, 30.0, 20.0)]
    await settle()
    assert [deadline.at for deadline in deadlines] == [30.0]
    gate.set()
    await asyncio.gather(*tasks)
