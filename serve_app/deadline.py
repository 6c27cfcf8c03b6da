"""Until when an answer is of use to somebody, and what clients and proxies send to say so."""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from serve_app.errors import DeadlineExceeded, InvalidRequest

HEADER = "x-request-timeout-ms"
# A client's wish for longer than this is none.
MAX_TIMEOUT_MS = 24 * 3600 * 1000
# https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md: eight digits and a unit.
_GRPC = re.compile(r"(\d{1,8})([HMSmun])", re.ASCII)
_GRPC_UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_NUMBER = re.compile(r"\d{1,12}(?:\.\d{1,6})?", re.ASCII)
# What proxies and SDKs send of themselves: what one count of each is worth, in seconds.
_OTHERS = {
    "x-envoy-expected-rq-timeout-ms": 1e-3,
    "x-stainless-read-timeout": 1.0,
}


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


def timeout_s(headers: Mapping[str, str]) -> float | None:
    """The seconds that the client, or a proxy for it, waits: the least of what they say.

    Raises InvalidRequest where this service's own header is wrong; others' are then ignored.
    """
    found = [own] if (own := _own(headers.get(HEADER))) is not None else []
    if match := _GRPC.fullmatch(headers.get("grpc-timeout", "")):
        found.append(int(match[1]) * _GRPC_UNITS[match[2]])
    for name, unit in _OTHERS.items():
        # Zero is their word for no limit.
        if _NUMBER.fullmatch(text := headers.get(name, "")) and float(text) > 0:
            found.append(float(text) * unit)
    return min(found, default=None)


def _own(text: str | None) -> float | None:
    if text is None:
        return None
    if not _NUMBER.fullmatch(text) or not 0 < float(text) <= MAX_TIMEOUT_MS:
        raise InvalidRequest(
            f"the header {HEADER} is a number of milliseconds above 0 and at most {MAX_TIMEOUT_MS}",
            param=HEADER,
        )
    return float(text) / 1000


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
