"""Exits a process whose forward pass hangs, so that Ray Serve starts a new one."""

from __future__ import annotations

import faulthandler
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def exit_on_timeout(seconds: float) -> Iterator[None]:
    """Log every thread's stack and exit the process if the block takes longer than `seconds`.

    The timer is a C thread, which does not need the locks that a hanging library may hold. Pending
    calls fail immediately and can be retried elsewhere, whereas after a failed health check Ray
    Serve would first wait for them. Only one block at a time.
    """
    # sys.stderr may be replaced; Ray logs what is written to the original.
    faulthandler.dump_traceback_later(seconds, exit=True, file=sys.__stderr__ or 2)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
