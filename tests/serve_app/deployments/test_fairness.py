"""Turns: a large request's chunks wait for each other, and nobody else does."""

from __future__ import annotations

import asyncio

from serve_app.deployments.fairness import CALM_S, Turns


class Queue:
    """What is in a replica's batch queue, and a way to finish it."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self.inside: list[str] = []
        self.finish = asyncio.Event()

    async def call(self, query: str, tokens: int) -> None:
        async with self._turns.turn(query, tokens):
            self.inside.append(query)
            await self.finish.wait()


async def _settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_one_chunk_of_a_query_at_once_beside_everybody_else() -> None:
    queue = Queue(Turns(large=100, shared=1, alone=1))
    calls = [("big", 200)] * 3 + [("small", 10)] * 2 + [("big", 10), ("other", 200)]
    tasks = [asyncio.create_task(queue.call(*call)) for call in calls]
    await _settle()
    assert sorted(queue.inside) == ["big", "big", "other", "small", "small"]
    queue.finish.set()
    await asyncio.gather(*tasks)
    assert queue.inside.count("big") == 4


async def test_two_at_once_where_there_may_be() -> None:
    queue = Queue(Turns(large=100, shared=2, alone=2))
    tasks = [asyncio.create_task(queue.call("big", 200)) for _ in range(3)]
    await _settle()
    assert queue.inside == ["big", "big"]
    queue.finish.set()
    await asyncio.gather(*tasks)


async def test_a_call_that_is_cancelled_gives_its_turn_on_and_nothing_is_kept() -> None:
    turns = Turns(large=1, shared=1, alone=1)
    queue = Queue(turns)
    first, second = (asyncio.create_task(queue.call("q", 5)) for _ in range(2))
    await _settle()
    first.cancel()
    await _settle()
    assert queue.inside == ["q", "q"]
    queue.finish.set()
    await second
    del first, second
    assert len(turns._gates) == 0


async def test_more_at_once_while_no_other_query_comes() -> None:
    now = 0.0
    turns = Turns(large=100, shared=1, alone=3, clock=lambda: now)
    queue = Queue(turns)
    big = [asyncio.create_task(queue.call("big", 200)) for _ in range(6)]
    await _settle()
    assert queue.inside == ["big"] * 3
    small = asyncio.create_task(queue.call("small", 10))
    await _settle()
    big[0].cancel()
    await _settle()
    assert queue.inside.count("big") == 3  # two go on inside; the next waits for both
    now = CALM_S + 1
    big[1].cancel()
    await _settle()
    assert queue.inside.count("big") == 5
    queue.finish.set()
    await asyncio.gather(*big[2:], small)


async def test_a_place_that_comes_in_the_moment_of_a_cancel_is_given_on() -> None:
    turns = Turns(large=1, shared=1, alone=1)
    queue = Queue(turns)
    first, second, third = (asyncio.create_task(queue.call("q", 5)) for _ in range(3))
    await _settle()
    first.cancel()
    await asyncio.sleep(0)  # the place is second's, which has not run yet
    second.cancel()
    await _settle()
    assert queue.inside == ["q", "q"]
    queue.finish.set()
    await third
