"""A circuit breaker: what failed several times in a row is left alone for a while."""

from __future__ import annotations

import time
from collections.abc import Callable

FAILURES = 3
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0


class Breaker:
    """Closed while calls succeed; open after `FAILURES` in a row, then tried after a pause.

    Pauses double until a call succeeds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures = 0
        self._pause_s = FIRST_PAUSE_S
        self._again_at = 0.0
        self.open = False

    def due(self) -> bool:
        """Whether an open breaker's pause is over; the caller tries then, and nobody else does."""
        now = self._clock()
        if not self.open or now < self._again_at:
            return False
        self._again_at = now + self._pause_s
        return True

    def succeeded(self) -> None:
        self._failures = 0
        self._pause_s = FIRST_PAUSE_S
        self.open = False

    def failed(self) -> bool:
        """Count a failure; True where it opens the breaker."""
        self._failures += 1
        if self._failures < FAILURES:
            return False
        opened = not self.open
        self.postpone()
        return opened

    def close(self) -> None:
        """Let calls through again; one more failure opens it, for longer than before."""
        self._failures = FAILURES - 1
        self.open = False

    def postpone(self) -> None:
        """The try failed: stay open, for longer."""
        self.open = True
        self._again_at = self._clock() + self._pause_s
        self._pause_s = min(LONGEST_PAUSE_S, 2 * self._pause_s)
