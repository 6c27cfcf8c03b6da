"""Concurrency on one event loop: coroutines side by side, and long loops that yield to others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Iterable
from typing import Any, TypeVar

T = TypeVar("T")

# Time worked between two looks at the event loop: by time, not by number, because a document may
# be a line or a book.
SLICE_S = 0.001
# Started between two looks at the event loop: a call's first step may take a third of a
# millisecond, and a large request makes a thousand calls.
STARTED_AT_ONCE = 8


async def gather_or_cancel(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """All results in order; the first error, once the others are cancelled.

    `work` is read as the coroutines are started, some at a time.
    """
    # No TaskGroup: before Python 3.11.9 one that fails leaves its task marked as cancelled,
    # which breaks callers that run on anyio, or that ask whether they are cancelled themselves.
    tasks: list[asyncio.Task[T]] = []
    try:
        for one in work:
            tasks.append(asyncio.ensure_future(one))
            if len(tasks) % STARTED_AT_ONCE == 0:
                await asyncio.sleep(0)
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


async def yielding(items: Iterable[T]) -> AsyncIterator[T]:
    """The items, with a look at the event loop every SLICE_S."""
    since = time.perf_counter()
    for item in items:
        if time.perf_counter() - since > SLICE_S:
            await asyncio.sleep(0)
            since = time.perf_counter()
        yield item
