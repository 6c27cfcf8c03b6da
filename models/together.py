"""Coroutines side by side, all or none."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

T = TypeVar("T")


async def together(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """All results in order; the first error, once the others are cancelled."""
    # No TaskGroup: before Python 3.11.9 one that fails leaves its task marked as cancelled,
    # which breaks callers that run on anyio, or that ask whether they are cancelled themselves.
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
