"""Until when an answer is of use to somebody, and what clients and proxies send to say so."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from serve_app.errors import DeadlineExceeded, InvalidRequest


class Deadline:
    """A moment of this process's monotonic clock, which moves back when somebody joins in."""

    __slots__ = ("at",)

    def __init__(self, at: float = math.inf) -> None:
        self.at = at

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        return cls(time.monotonic() + seconds)

    def left(self) -> float:
        """Seconds until then; negative once it has passed, infinite where there is none."""
        return self.at - time.monotonic()

    def extend(self, at: float) -> None:
        self.at = max(self.at, at)


def positive(seconds: float) -> float:
    """The seconds that a handle's caller gives. Raises InvalidRequest where they are none."""
    number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if not number or not 0 < seconds < math.inf:
        raise InvalidRequest("timeout_s is a number of seconds above 0", param="timeout_s")
    return seconds


@asynccontextmanager
async def within(deadline: float, what: str = "the request") -> AsyncIterator[None]:
    """Cancel what runs inside at that moment of the monotonic clock.

    Raises DeadlineExceeded then, and at once where the moment has passed already.
    """
    if deadline == math.inf:
        yield
        return
    left = deadline - time.monotonic()
    late = DeadlineExceeded(
        f"{what} was not answered within the time that its client gives it; it was dropped"
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
