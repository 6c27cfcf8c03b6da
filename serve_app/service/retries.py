"""A replica's answer, asked for again when the replica fails, within one bound of time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from models.images import ImageError
from models.types import ScoringError
from serve_app.errors import (
    DeadlineExceeded,
    InvalidRequest,
    ModelUnavailable,
    RerankError,
    ScoringFailed,
)
from serve_app.service.deadline import Deadline

logger = logging.getLogger("ray.serve")
T = TypeVar("T")

PAUSE_S = 0.1


class Tries:
    """At most `max_retries` further tries; all of them take `timeout_s` seconds together."""

    def __init__(self, max_retries: int, timeout_s: float) -> None:
        self._max_retries = max_retries
        self._timeout_s = timeout_s

    async def run(
        self,
        name: str,
        call: Callable[[float], Awaitable[T]],
        until: Deadline,
        again: Callable[[], None],
    ) -> T:
        """The answer of the model `name`.

        `call` is told the seconds that are left, or until nobody waits any more; `again` is
        called before each further try. Raises a RerankError: DeadlineExceeded, ModelUnavailable
        when the tries are used up, ScoringFailed and InvalidRequest, which no try would change.
        """
        limit = Deadline.after(self._timeout_s)
        failures = 0
        while True:
            try:
                async with asyncio.timeout(limit.left()):
                    return await call(min(limit.left(), until.left()))
            except DeadlineExceeded:
                if until.left() <= 0:
                    raise
                continue  # the first who asked is gone; others who wait longer have joined
            except RerankError:
                raise
            except ImageError as error:
                raise InvalidRequest(f"{error}", param="documents") from error
            except ScoringError as error:
                raise ScoringFailed(str(error)) from error
            except TimeoutError as error:
                raise DeadlineExceeded(
                    f"the model {name!r} took longer than {self._timeout_s:g} s; "
                    "send fewer or shorter documents"
                ) from error
            except (Exception, asyncio.CancelledError) as error:
                task = asyncio.current_task()
                if isinstance(error, asyncio.CancelledError) and task and task.cancelling():
                    raise  # this request is cancelled, not only the replica's call
                failures += 1
                logger.warning("model %s failed, try %d: %r", name, failures, error)
            if failures > self._max_retries:
                raise ModelUnavailable(f"the model {name!r} does not answer; try again in a moment")
            again()
            await asyncio.sleep(PAUSE_S * 2 ** (failures - 1))
