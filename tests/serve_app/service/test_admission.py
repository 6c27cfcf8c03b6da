"""Admission: the order of the queue, its limits, and that no slot is ever lost."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_app.errors import Overloaded, QueueTimeout, ShuttingDown
from serve_app.service.admission import Admission
from tests.serve_app.fakes import WordOverlap, ask, make_service
from tests.waiting import settle


async def test_first_come_first_served() -> None:
    admission = Admission(1, 10, 5.0)
    seen: list[int] = []

    async def work(i: int) -> None:
        async with admission.slot():
            seen.append(i)
            await asyncio.sleep(0)

    await asyncio.gather(*(work(i) for i in range(8)))
    assert seen == list(range(8))


async def test_lower_priority_numbers_are_served_first() -> None:
    admission = Admission(1, 10, 5.0)
    seen: list[tuple[int, int]] = []

    async def work(priority: int, i: int) -> None:
        async with admission.slot(priority=priority):
            seen.append((priority, i))
            await asyncio.sleep(0)

    places = [(0, 0), (5, 1), (2, 2), (0, 3), (5, 4), (0, 5)]
    await asyncio.gather(*(work(*place) for place in places))
    assert seen == [(0, 0), (0, 3), (0, 5), (2, 2), (5, 1), (5, 4)]


async def test_a_full_queue_displaces_its_last_request_for_one_with_priority() -> None:
    admission = Admission(1, 2, 5.0)
    seen: list[str] = []

    async def work(name: str, priority: int) -> None:
        async with admission.slot(priority=priority):
            seen.append(name)
            await asyncio.sleep(0)

    async with admission.slot():
        low = [asyncio.create_task(work(f"low {i}", 9)) for i in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await work("same priority", 9)
        high = asyncio.create_task(work("high", 1))
        with pytest.raises(Overloaded):
            await low[1]
        assert admission.waiting == 2
    await asyncio.gather(high, low[0])
    assert seen == ["high", "low 0"]
    assert (admission.waiting, admission.active) == (0, 0)


async def test_a_displaced_request_that_is_cancelled_does_not_release_a_slot() -> None:
    admission = Admission(1, 1, 5.0)
    async with admission.slot():
        low = asyncio.create_task(admission.slot(priority=9).__aenter__())
        await asyncio.sleep(0)
        high = asyncio.create_task(admission.slot(priority=0).__aenter__())
        await asyncio.sleep(0)  # low has been displaced, but has not run yet
        low.cancel()
        with pytest.raises((asyncio.CancelledError, Overloaded)):
            await low
        assert (admission.waiting, admission.active) == (1, 1)
        assert not high.done()
        high.cancel()
        with pytest.raises(asyncio.CancelledError):
            await high
    assert (admission.waiting, admission.active) == (0, 0)


async def test_a_queue_timeout_reports_the_time_waited() -> None:
    admission = Admission(1, 1, 0.05)
    async with admission.slot():
        waiting = asyncio.create_task(admission.slot().__aenter__())
        await asyncio.sleep(0)
        assert (admission.waiting, admission.active, admission.available_slots) == (1, 1, 0)
        with pytest.raises(Overloaded):
            await admission.slot().__aenter__()
        with pytest.raises(QueueTimeout) as refused:
            await waiting
    assert refused.value.queued_s is not None
    assert refused.value.queued_s >= 0.04
    assert (admission.waiting, admission.active) == (0, 0)


async def test_close_refuses_new_requests_and_drain_waits_for_running_ones() -> None:
    admission = Admission(1, 1, 5.0)
    async with admission.slot():
        admission.close()
        with pytest.raises(ShuttingDown):
            await admission.slot().__aenter__()
        assert not await admission.drain(0.02)
    assert await admission.drain(0.02)


@given(st.integers(0, 2**32), st.integers(1, 3), st.integers(0, 12))
@settings(max_examples=60, deadline=None)
def test_random_cancellation_loses_no_slot(seed: int, parallel: int, queue: int) -> None:
    async def main() -> None:
        rng, admission, most = random.Random(seed), Admission(parallel, queue, 0.002), 0

        async def work() -> None:
            nonlocal most
            async with admission.slot():
                most = max(most, admission.active)
                for _ in range(rng.randrange(4)):
                    await asyncio.sleep(rng.choice((0, 0, 0.001)))

        tasks = [asyncio.create_task(work()) for _ in range(20)]
        for task in rng.sample(tasks, 10):
            for _ in range(rng.randrange(3)):
                await asyncio.sleep(0)
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert (admission.active, admission.waiting) == (0, 0)
        assert most <= parallel
        async with admission.slot():
            assert admission.active == 1

    asyncio.run(main())


async def test_retry_after_is_estimated_from_recent_requests() -> None:
    backend = WordOverlap()
    service = make_service(backend, max_parallel=2)
    admission = service._admission
    admission._record_hold(10.0)
    backend.gate.clear()
    tasks = [asyncio.create_task(service.rerank(ask(f"{i}", query="q"))) for i in range(6)]
    await asyncio.sleep(0.02)
    with pytest.raises(Overloaded) as refusal:
        await service.rerank(ask("x", query="q"))
    assert refusal.value.retry_after_s == 25  # five requests, two at a time, 10 s each
    admission._record_hold(1000.0)
    assert admission.retry_after_s == 30
    backend.gate.set()
    started = asyncio.get_running_loop().time()
    await asyncio.gather(*tasks)
    assert asyncio.get_running_loop().time() - started < 5


async def test_a_check_refuses_what_a_slot_would_and_takes_nothing() -> None:
    admission = Admission(1, 1, 5.0)
    admission.check()
    async with admission.slot():
        admission.check()  # there is a place in the queue

        async def wait() -> None:
            async with admission.slot(1):
                pass

        waiting = asyncio.create_task(wait())
        await settle()
        with pytest.raises(Overloaded):
            admission.check(1)
        admission.check(0)  # would displace the one that waits
        assert (admission.active, admission.waiting) == (1, 1)
    await waiting
    admission.close()
    with pytest.raises(ShuttingDown):
        admission.check()
