"""Concurrency: running coroutines together, and yielding in long loops and long calls."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

# Maximum time between two yields to the event loop. A time rather than a number of items, because
# a document may be a line or a book.
SLICE_S = 0.001
# Coroutines started between two yields to the event loop. A call's first step may take a third of
# a millisecond, and a large request makes a thousand calls.
STARTED_AT_ONCE = 8


async def gather_or_cancel(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run coroutines concurrently and return their results in order.

    If one fails, cancels the others, waits for them and raises the first error. `work` is consumed
    as coroutines are started, a few at a time.
    """
    # Not a TaskGroup: before Python 3.11.9 a failed one leaves the current task marked as
    # cancelled, which breaks callers that use anyio or check for their own cancellation.
    tasks: list[asyncio.Task[T]] = []
    try:
        for one in work:
            tasks.append(asyncio.ensure_future(one))
            if len(tasks) % STARTED_AT_ONCE == 0:
                await asyncio.sleep(0)
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


async def yielding(items: Iterable[T]) -> AsyncIterator[T]:
    """Iterate over `items`, yielding to the event loop every SLICE_S."""
    since = time.perf_counter()
    for item in items:
        if time.perf_counter() - since > SLICE_S:
            await asyncio.sleep(0)
            since = time.perf_counter()
        yield item


async def in_thread_if(
    large: bool, function: Callable[P, T], *args: P.args, **options: P.kwargs
) -> T:
    """Call `function` in a thread if its input is `large`, otherwise directly."""
    if large:
        return await asyncio.to_thread(function, *args, **options)
    return function(*args, **options)


_at_checkpoints: ContextVar[Callable[[], None] | None] = ContextVar("at_checkpoints", default=None)
_patient: ContextVar[bool] = ContextVar("patient", default=False)


def checkpoint() -> None:
    """Call what `at_checkpoints` was given, if anything.

    Long calls in a thread do this between two bounded pieces of work.
    """
    action = _at_checkpoints.get()
    if action is not None:
        action()


@contextmanager
def at_checkpoints(action: Callable[[], None], *, patient: bool = False) -> Iterator[None]:
    """Call `action` at each checkpoint in the block; an exception that it raises ends the call.

    `patient`: in a Turn, the block lets others go first.
    """
    tokens = _at_checkpoints.set(action), _patient.set(patient)
    try:
        yield
    finally:
        _at_checkpoints.reset(tokens[0])
        _patient.reset(tokens[1])


class Turn:
    """A lock for threads, first come, first served; a patient one enters only every other time.

    A plain lock would usually go to the thread that has just released it.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: dict[bool, deque[object]] = {False: deque(), True: deque()}
        self._busy = False
        self._last_patient = False

    def __enter__(self) -> None:
        patient, me = _patient.get(), object()
        with self._changed:
            self._waiting[patient].append(me)
            self._changed.wait_for(lambda: not self._busy and self._next() is me)
            self._waiting[patient].popleft()
            self._busy, self._last_patient = True, patient

    def __exit__(self, *error: object) -> None:
        with self._changed:
            self._busy = False
            self._changed.notify_all()

    def _next(self) -> object:
        turn = not self._last_patient
        return (self._waiting[turn] or self._waiting[not turn])[0]
