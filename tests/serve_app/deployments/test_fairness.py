"""Fair sharing of a replica's batch queue: only the chunks of one large request wait."""

from __future__ import annotations

import asyncio

from serve_app.deployments.fairness import ALONE_AFTER_S, FairQueue


class Queue:
    """Records which calls are in a replica's batch queue, until `finish` is set."""

    def __init__(self, fair: FairQueue) -> None:
        self._fair = fair
        self.inside: list[str] = []
        self.finish = asyncio.Event()

    async def call(self, query: str, tokens: int) -> None:
        async with self._fair.slot(query, tokens):
            self.inside.append(query)
            await self.finish.wait()


async def _settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_one_large_chunk_of_each_query_enters_at_a_time() -> None:
    queue = Queue(FairQueue(large=100, shared=1, alone=1))
    calls = [("big", 200)] * 3 + [("small", 10)] * 2 + [("big", 10), ("other", 200)]
    tasks = [asyncio.create_task(queue.call(*call)) for call in calls]
    await _settle()
    assert sorted(queue.inside) == ["big", "big", "other", "small", "small"]
    queue.finish.set()
    await asyncio.gather(*tasks)
    assert queue.inside.count("big") == 4


async def test_two_large_chunks_enter_if_the_limit_is_two() -> None:
    queue = Queue(FairQueue(large=100, shared=2, alone=2))
    tasks = [asyncio.create_task(queue.call("big", 200)) for _ in range(3)]
    await _settle()
    assert queue.inside == ["big", "big"]
    queue.finish.set()
    await asyncio.gather(*tasks)


async def test_a_cancelled_call_frees_its_slot_and_leaves_nothing_behind() -> None:
    fair = FairQueue(large=1, shared=1, alone=1)
    queue = Queue(fair)
    first, second = (asyncio.create_task(queue.call("q", 5)) for _ in range(2))
    await _settle()
    first.cancel()
    await _settle()
    assert queue.inside == ["q", "q"]
    queue.finish.set()
    await second
    del first, second
    assert len(fair._slots) == 0


async def test_a_query_that_is_alone_gets_more_slots() -> None:
    now = 0.0
    queue = Queue(FairQueue(large=100, shared=1, alone=3, clock=lambda: now))
    big = [asyncio.create_task(queue.call("big", 200)) for _ in range(6)]
    await _settle()
    assert queue.inside == ["big"] * 3
    small = asyncio.create_task(queue.call("small", 10))
    await _settle()
    big[0].cancel()
    await _settle()
    assert queue.inside.count("big") == 3  # two are inside; the next one waits for both
    now = ALONE_AFTER_S + 1
    big[1].cancel()
    await _settle()
    assert queue.inside.count("big") == 5
    queue.finish.set()
    await asyncio.gather(*big[2:], small)


async def test_a_slot_received_while_being_cancelled_is_passed_on() -> None:
    queue = Queue(FairQueue(large=1, shared=1, alone=1))
    first, second, third = (asyncio.create_task(queue.call("q", 5)) for _ in range(3))
    await _settle()
    first.cancel()
    await asyncio.sleep(0)  # the slot now belongs to second, which has not run yet
    second.cancel()
    await _settle()
    assert queue.inside == ["q", "q"]
    queue.finish.set()
    await third
