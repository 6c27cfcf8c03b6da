"""When a provider is left alone: after failures in a row, or with its budget used up."""

from __future__ import annotations

import time
from collections.abc import Callable

from models.remote.errors import RemoteRateLimited, RemoteUnavailable

FAILURES = 5
COOL_DOWN_S = 10.0
HOUR_S = 3600.0


class Breaker:
    """Closed until `failures` tries in a row failed; then open for `cool_down_s`.

    After that one try goes through: its success closes the breaker, its failure opens it anew.
    """

    def __init__(
        self,
        who: str,
        *,
        failures: int = FAILURES,
        cool_down_s: float = COOL_DOWN_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._who = who
        self._failures = failures
        self._cool_down_s = cool_down_s
        self._clock = clock
        self._row = 0
        self._opened: float | None = None
        self._probing = False

    @property
    def is_open(self) -> bool:
        return self._opened is not None

    def enter(self) -> None:
        """Before each try. Raises RemoteUnavailable while the breaker is open."""
        if self._opened is None:
            return
        left = self._opened + self._cool_down_s - self._clock()
        if left > 0 or self._probing:
            raise RemoteUnavailable(
                f"{self._who} failed {self._row} times in a row and is left alone for a moment",
                retry_after_s=max(left, 1.0),
            )
        self._probing = True

    def succeeded(self) -> None:
        self._row, self._opened, self._probing = 0, None, False

    def failed(self) -> bool:
        """Count a failure; True when it opens the breaker."""
        self._row += 1
        self._probing = False
        if self._row < self._failures:
            return False
        self._opened = self._clock()
        return True

    def left(self) -> None:
        """The try was given up from this side, and says nothing of the provider."""
        self._probing = False


class TokenBudget:
    """Tokens that calls may cost in an hour, counted from the first call of it."""

    def __init__(
        self, who: str, limit: int | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._who = who
        self._limit = limit
        self._clock = clock
        self._since = clock()
        self._spent = 0

    def check(self) -> None:
        """Raises RemoteRateLimited when the hour's tokens are used up."""
        if self._limit is None:
            return
        now = self._clock()
        if now - self._since >= HOUR_S:
            self._since, self._spent = now, 0
        if self._spent >= self._limit:
            raise RemoteRateLimited(
                f"{self._who}: the budget of {self._limit} tokens an hour is used up",
                retry_after_s=self._since + HOUR_S - now,
            )

    def spend(self, tokens: int) -> None:
        self._spent += tokens
