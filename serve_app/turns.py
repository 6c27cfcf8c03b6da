"""Turns on a replica: a large request's chunks one after the other, so that others fit between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary


class Turns:
    """At most `at_once` large calls of one query are in a replica's batch queue together.

    The queue is first come, first served: without turns a short request would wait for every
    chunk that a large one has brought before it. Small calls take no turn, so they merge.
    """

    def __init__(self, large: int, at_once: int) -> None:
        """`large`: tokens from which on a call takes a turn."""
        self._large = large
        self._at_once = at_once
        self._by_query: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    @asynccontextmanager
    async def turn(self, query: str, tokens: int) -> AsyncIterator[None]:
        """Wait for the query's earlier chunks, if the call is large."""
        if tokens < self._large:
            yield
            return
        gate = self._by_query.get(query)
        if gate is None:
            gate = self._by_query[query] = asyncio.Semaphore(self._at_once)
        async with gate:
            yield
