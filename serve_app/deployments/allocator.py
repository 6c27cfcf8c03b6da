"""How this process gives freed memory back to the system."""

from __future__ import annotations

import contextlib
import ctypes

# From malloc.h.
_M_MMAP_THRESHOLD = -3
_MMAP_THRESHOLD = 128 * 1024


def return_large_blocks() -> None:
    """Make glibc return freed blocks over 128 KiB to the system at once.

    By default it raises that threshold to the size of the largest block freed so far. Bodies of
    megabytes then come from the heap, and the process keeps most of what its largest burst of
    uploads took. Does nothing with another C library.
    """
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD)
