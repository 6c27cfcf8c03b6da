"""Coroutines run concurrently: results in order, all or none, without blocking the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from itertools import pairwise
from typing import Any

import pytest

from models import concurrency
from models.concurrency import STARTED_AT_ONCE, gather_or_cancel, yielding


async def test_results_come_in_order() -> None:
    async def one(number: int) -> int:
        await asyncio.sleep(0.001 * (50 - number))
        return number

    assert await gather_or_cancel(one(i) for i in range(50)) == list(range(50))
    assert await gather_or_cancel(()) == []


async def test_the_event_loop_is_free_while_many_coroutines_start() -> None:
    started = 0
    seen: list[int] = []

    async def one() -> None:
        nonlocal started
        started += 1
        await asyncio.sleep(0)

    async def other() -> None:
        while True:
            seen.append(started)
            await asyncio.sleep(0)

    beside = asyncio.create_task(other())
    await gather_or_cancel(one() for _ in range(10 * STARTED_AT_ONCE))
    beside.cancel()
    steps = [after - before for before, after in pairwise(seen)]
    assert max(steps) <= STARTED_AT_ONCE


async def test_the_first_error_cancels_the_others() -> None:
    made, ended = 0, []

    async def one(number: int) -> None:
        try:
            if number == 3:
                raise ValueError("three")
            await asyncio.sleep(60)
        finally:
            ended.append(number)

    def work() -> Iterator[Coroutine[Any, Any, None]]:
        nonlocal made
        for number in range(20):
            made += 1
            yield one(number)

    with pytest.raises(ValueError, match="three"):
        await gather_or_cancel(work())
    assert sorted(ended) == list(range(made))


async def test_a_long_loop_yields_to_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(concurrency, "SLICE_S", 0.0)
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(other())
    assert [item async for item in yielding(range(50))] == list(range(50))
    beside.cancel()
    assert turns >= 25
