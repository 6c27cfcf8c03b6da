"""Work on a request's texts, in slices between which others have their turn."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from typing import TypeVar

T = TypeVar("T")

# Time worked between two looks at the event loop: by time, not by number, because a document may
# be a line or a book.
SLICE_S = 0.001


async def paced(items: Iterable[T]) -> AsyncIterator[T]:
    """The items, with a look at the event loop every SLICE_S."""
    since = time.perf_counter()
    for item in items:
        if time.perf_counter() - since > SLICE_S:
            await asyncio.sleep(0)
            since = time.perf_counter()
        yield item
