"""Deadlines: the time by which a request's result must be ready."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from serve_app.errors import DeadlineExceeded, InvalidRequest


class Deadline:
    """A time on this process's monotonic clock, which can be extended. Default: never."""

    __slots__ = ("at",)

    def __init__(self, at: float = math.inf) -> None:
        self.at = at

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        return cls(time.monotonic() + seconds)

    def remaining(self) -> float:
        """Return the seconds left: negative after the deadline, infinite without one."""
        return self.at - time.monotonic()

    def extend(self, at: float) -> None:
        """Move the deadline to `at` if that is later."""
        self.at = max(self.at, at)


def check_timeout(seconds: float) -> float:
    """Return a handle call's timeout. Raises InvalidRequest unless it is finite and above 0."""
    number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if not number or not 0 < seconds < math.inf:
        raise InvalidRequest("timeout_s must be a number of seconds above 0", param="timeout_s")
    return seconds


@asynccontextmanager
async def within(deadline: float, what: str = "the request") -> AsyncIterator[None]:
    """Cancel the block at `deadline`, a time on the monotonic clock, and raise DeadlineExceeded.

    Raises at once if the deadline has already passed. `what` names the work in the message.
    """
    if deadline == math.inf:
        yield
        return
    left = deadline - time.monotonic()
    late = DeadlineExceeded(
        f"{what} was dropped: it did not finish within the timeout set by the client"
    )
    if left <= 0:
        raise late
    limit = asyncio.timeout(left)
    try:
        async with limit:
            yield
    except TimeoutError:
        if limit.expired():
            raise late from None
        raise
