"""A body's way to its answer in one dialect: parse, rank, render. No HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from serve_app.dialects.base import Call, Limits, ManyDialect, Outcome, Wire
from serve_app.errors import RerankError
from serve_app.types import RerankRequest, RerankResult

# Queries of one call that are ranked at a time: a call with many must not fill the queue.
MAX_PARALLEL = 4

# Results that are written in a thread: the interpreter goes back and forth between both.
THREAD_RESULTS = 2_000

Rank = Callable[[RerankRequest], Awaitable[RerankResult]]


async def answer(
    rank: Rank, dialect: Wire, body: Mapping[str, Any], limits: Limits
) -> tuple[bytes, Mapping[str, float]]:
    """The answer's bytes, and the stages' times where there was one query."""
    if isinstance(dialect, ManyDialect):
        calls = dialect.parse_all(body, limits)
        return dialect.render_all(calls, await _all(rank, calls), body), {}
    # Between stages of a large request others have their turn.
    await asyncio.sleep(0)
    request = dialect.parse(body, limits)
    await asyncio.sleep(0)
    result = await rank(request)
    await asyncio.sleep(0)
    if len(result.results) < THREAD_RESULTS:
        return dialect.render(result, request), result.timings_ms
    return await asyncio.to_thread(dialect.render, result, request), result.timings_ms


async def _all(rank: Rank, calls: Sequence[Call]) -> Sequence[Outcome]:
    outcomes: dict[int, Outcome] = {}
    waiting = iter(enumerate(calls))

    async def work() -> None:
        for i, call in waiting:
            if isinstance(call, RerankError):
                outcomes[i] = call
                continue
            try:
                outcomes[i] = await rank(call)
            except RerankError as error:
                outcomes[i] = error

    async with asyncio.TaskGroup() as group:
        for _ in range(min(MAX_PARALLEL, len(calls))):
            group.create_task(work())
    return [outcomes[i] for i in range(len(calls))]
