"""When calls to a provider stop: after consecutive failures, or when its budget is used up."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from models.remote.errors import RemoteRateLimited, RemoteUnavailable

FAILURES = 5
COOL_DOWN_S = 10.0
HOUR_S = 3600.0


class CircuitBreaker:
    """Opens for `cool_down_s` after `failures` consecutive failed calls to a provider.

    Then it lets one probe call through: success closes the breaker, failure opens it again.
    """

    def __init__(
        self,
        label: str,
        *,
        failures: int = FAILURES,
        cool_down_s: float = COOL_DOWN_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._label = label
        self._max_failures = failures
        self._cool_down_s = cool_down_s
        self._clock = clock
        self._failures = 0
        self._opened_at: float | None = None
        self._probing = False

    @property
    def is_open(self) -> bool:
        return self._opened_at is not None

    def admit(self) -> None:
        """Let a call through. Raises RemoteUnavailable while the breaker is open."""
        if self._opened_at is None:
            return
        remaining_s = self._opened_at + self._cool_down_s - self._clock()
        if remaining_s > 0 or self._probing:
            retry_after_s = max(remaining_s, 1.0)
            raise RemoteUnavailable(
                f"{self._label} failed {self._failures} times in a row; calls are paused for "
                f"{math.ceil(retry_after_s)} s",
                retry_after_s=retry_after_s,
            )
        self._probing = True

    def succeeded(self) -> None:
        self._failures, self._opened_at, self._probing = 0, None, False

    def failed(self) -> bool:
        """Count a failure and return whether it opens the breaker."""
        self._failures += 1
        self._probing = False
        if self._failures < self._max_failures:
            return False
        self._opened_at = self._clock()
        return True

    def cancelled(self) -> None:
        """The call was cancelled on our side, which says nothing about the provider."""
        self._probing = False


class TokenBudget:
    """A limit on tokens per hour. A new hour starts with the first call after the previous one."""

    def __init__(
        self, label: str, limit: int | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._label = label
        self._limit = limit
        self._clock = clock
        self._since = clock()
        self._spent = 0

    def check(self) -> None:
        """Raise RemoteRateLimited if this hour's tokens are used up."""
        if self._limit is None:
            return
        now = self._clock()
        if now - self._since >= HOUR_S:
            self._since, self._spent = now, 0
        if self._spent >= self._limit:
            raise RemoteRateLimited(
                f"{self._label}: the budget of {self._limit} tokens per hour is used up",
                retry_after_s=self._since + HOUR_S - now,
            )

    def spend(self, tokens: int) -> None:
        self._spent += tokens
