"""Exits a process whose forward pass hangs, so that Ray Serve starts a new one."""

from __future__ import annotations

import faulthandler
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

# Seconds between the timeout, after which the process fails the hanging calls and exits, and the
# exit that needs neither Python nor a lock.
GRACE_S = 2.0
# How often that timer is set anew. Each time a thread ends and another one starts, which would cost
# milliseconds if it were done for each micro-batch on a busy processor.
REARM_S = 1.0


class Watchdog:
    """Watches that calls in threads make progress, at least every `seconds`.

    If they do not, `hanging`, which has to be called regularly, returns what is being run. GRACE_S
    to GRACE_S + REARM_S later every thread's stack is logged and the process exits. That timer is a
    C thread, which does not need the locks that a hanging library may hold. Pending calls then fail
    immediately and can be retried elsewhere, whereas after a failed health check Ray Serve would
    first wait for them.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._running: list[object] = []
        self._since = 0.0
        self._last: object = None
        # When the timer was set; None if it is not.
        self._armed: float | None = None

    @contextmanager
    def watching(self, what: object) -> Iterator[None]:
        """Watch the block, which runs `what`."""
        with self._lock:
            self._running.append(what)
            # Another block that is running may hang, and this one then waits for it.
            if len(self._running) == 1:
                self._restart(what)
        try:
            yield
        finally:
            with self._lock:
                self._running.remove(what)
                if self._running:
                    self._restart(self._running[0])

    def progress(self, what: object) -> None:
        """Start the time anew: from now on, `what` is being run."""
        with self._lock:
            self._restart(what)

    def hanging(self) -> object:
        """What has been run for longer than the timeout, or None."""
        with self._lock:
            if not self._running:
                self._disarm()
                return None
            late = time.monotonic() - self._since > self._seconds
            return self._last if late else None

    def _restart(self, what: object) -> None:
        self._since, self._last = time.monotonic(), what
        if self._armed is None or self._since - self._armed > REARM_S:
            self._armed = self._since
            # sys.stderr may be replaced; Ray logs what is written to the original.
            stderr = sys.__stderr__ or 2
            seconds = self._seconds + GRACE_S + REARM_S
            faulthandler.dump_traceback_later(seconds, exit=True, file=stderr)

    def _disarm(self) -> None:
        if self._armed is not None:
            faulthandler.cancel_dump_traceback_later()
            self._armed = None
