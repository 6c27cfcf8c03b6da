"""Ends a process whose forward pass does not end, so that Ray Serve starts another one."""

from __future__ import annotations

import faulthandler
import sys
from collections.abc import Iterator
from contextlib import contextmanager


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
