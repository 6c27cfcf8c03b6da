"""A circuit breaker: stops calls to something that failed several times in a row."""

from __future__ import annotations

import time
from collections.abc import Callable

FAILURES = 3
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0


class Breaker:
    """Closed while calls succeed; opens after `FAILURES` failures in a row.

    An open breaker allows one call after each pause. Pauses double until a call succeeds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures = 0
        self._next_pause_s = FIRST_PAUSE_S
        self._retry_at = 0.0
        self.pause_s = 0.0  # the current pause
        self.open = False

    def due(self) -> bool:
        """Whether an open breaker's pause is over. True for one caller, who must then retry."""
        now = self._clock()
        if not self.open or now < self._retry_at:
            return False
        self._retry_at = now + self._next_pause_s
        return True

    def succeeded(self) -> None:
        self._failures = 0
        self._next_pause_s = FIRST_PAUSE_S
        self.open = False

    def failed(self) -> bool:
        """Count a failure. Returns True if it opened the breaker."""
        self._failures += 1
        if self._failures < FAILURES:
            return False
        opened = not self.open
        self.postpone()
        return opened

    def close(self) -> None:
        """Allow calls again. A single failure reopens the breaker, with a longer pause."""
        self._failures = FAILURES - 1
        self.open = False

    def postpone(self) -> None:
        """Stay open after a failed retry, and double the pause."""
        self.open = True
        self.pause_s = self._next_pause_s
        self._retry_at = self._clock() + self.pause_s
        self._next_pause_s = min(LONGEST_PAUSE_S, 2 * self._next_pause_s)
