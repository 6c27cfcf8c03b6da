"""Notices a forward pass that does not end, so that Ray Serve replaces its replica."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class Watch:
    """How long the forward pass that runs has run."""

    def __init__(self, limit_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit_s = limit_s
        self._clock = clock
        self._since: float | None = None

    @contextmanager
    def watching(self) -> Iterator[None]:
        self._since = self._clock()
        try:
            yield
        finally:
            self._since = None

    def check(self) -> None:
        """Raises RuntimeError once what runs has run for longer than the limit."""
        if self._since is None:
            return
        for_s = self._clock() - self._since
        if for_s > self._limit_s:
            raise RuntimeError(
                f"a forward pass has run for {for_s:.1f} s; the limit (RERANKER_HANG_TIMEOUT) is "
                f"{self._limit_s:g} s"
            )


def health_checks(hang_s: float) -> dict[str, Any]:
    """As `serve.deployment(...).options` takes them: often enough for that limit.

    Serve gives a replica up at the third failure in a row; one that answers no check at all, as
    when its process is stopped, fails each after the timeout.
    """
    return {
        "health_check_period_s": min(10.0, max(0.5, hang_s / 6)),
        "health_check_timeout_s": min(30.0, max(1.0, hang_s / 3)),
    }
