"""Ends a process whose forward pass does not end, so that Ray Serve starts another one."""

from __future__ import annotations

import faulthandler
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def ended_after(seconds: float) -> Iterator[None]:
    """End this process, with every thread's stack in its log, when the block takes longer.

    The clock is a thread without Python, which needs no lock that a stuck library may hold. Calls
    that wait in the process fail at once, and can be tried elsewhere: by a failed health check
    Ray Serve would wait for them first. One such block at a time.
    """
    # Ray's workers write the real one to their log, whatever stands in for it.
    faulthandler.dump_traceback_later(seconds, exit=True, file=sys.__stderr__ or 2)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def health_checks(hang_s: float) -> dict[str, Any]:
    """As `serve.deployment(...).options` takes them, for a process that answers nothing at all.

    Serve gives a replica up at the third failure in a row.
    """
    return {
        "health_check_period_s": min(10.0, max(0.5, hang_s / 6)),
        "health_check_timeout_s": min(30.0, max(1.0, hang_s / 3)),
    }
