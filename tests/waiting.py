"""Waiting for a condition, in place of a fixed pause."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

TIMEOUT_S = 10.0
POLL_S = 0.02


async def until(
    condition: Callable[[], bool | Awaitable[bool]], timeout_s: float = TIMEOUT_S
) -> None:
    """Returns once the condition holds. Raises AssertionError after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while True:
        now = condition()
        if now if isinstance(now, bool) else await now:
            return
        assert time.monotonic() < deadline, "the condition did not become true"
        await asyncio.sleep(POLL_S)


async def settle(turns: int = 50) -> None:
    """Let the event loop run until its tasks wait for something other than each other."""
    for _ in range(turns):
        await asyncio.sleep(0)
