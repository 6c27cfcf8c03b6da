"""Calls to a model's replicas, with a timeout and retries."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from models.images import ImageError
from models.types import Document, ModelInfo, Score, ScoreOptions, ScoringError
from models.vectors import Vectors
from serve_app.errors import (
    DeadlineExceeded,
    InvalidRequest,
    ModelUnavailable,
    RerankError,
    ScoringFailed,
)
from serve_app.service.deadline import Deadline
from serve_app.telemetry import Telemetry

logger = logging.getLogger("ray.serve")
T = TypeVar("T")

# Seconds before the first retry; each further retry waits twice as long.
PAUSE_S = 0.1


class OtherRevision(list[Score]):
    """Scores of a replica that runs other weights than those that the caller knows of.

    They are an answer, but must not be stored as the scores of the known weights.
    """


class MergedCallsFailed(Exception):
    """One of several calls that a replica merged made it exit, and it is not known which."""


class Replicas(Protocol):
    """One model's replicas, wherever they run. Calls may raise any exception."""

    async def info(self) -> ModelInfo: ...

    async def score(
        self,
        query: str,
        documents: list[Document],
        options: ScoreOptions,
        timeout_s: float,
        alone: bool = False,
    ) -> list[Score]:
        """Raises DeadlineExceeded after `timeout_s` seconds, and starts no forward pass then.

        The result is an OtherRevision if the replica has not the revision that `info` returns.
        `alone`: not to be merged with other calls.
        """
        ...

    async def embed(self, documents: list[Document], options: ScoreOptions) -> Vectors: ...


class RetryingModel:
    """One model's replicas with retries. Calls raise only RerankErrors.

    A call is retried at most `max_retries` times; all attempts together take at most `timeout_s`
    seconds. Raises DeadlineExceeded after that, ModelUnavailable after the last attempt, and
    ScoringFailed or InvalidRequest for failures that a retry would not fix.
    """

    def __init__(
        self,
        name: str,
        replicas: Replicas,
        telemetry: Telemetry,
        *,
        max_retries: int,
        timeout_s: float,
    ) -> None:
        self.name = name
        self._replicas = replicas
        self._telemetry = telemetry
        self._max_retries = max_retries
        self._timeout_s = timeout_s

    async def info(self) -> ModelInfo:
        """Return the description of the loaded model."""
        return await self._retried(lambda _: self._replicas.info(), Deadline())

    async def score(
        self, query: str, documents: list[Document], options: ScoreOptions, until: Deadline
    ) -> list[Score]:
        """Score the documents, in their order. `until` may be extended during the call."""
        alone = False

        async def attempt(left_s: float) -> list[Score]:
            nonlocal alone
            named = {"alone": True} if alone else {}
            try:
                return await self._replicas.score(query, documents, options, left_s, **named)
            except MergedCallsFailed:
                # The call that is to blame then fails by itself, and the others succeed.
                alone = True
                raise

        scores = await self._retried(attempt, until)
        if len(scores) != len(documents):
            raise ScoringFailed(
                f"the model {self.name!r} returned {len(scores)} scores for "
                f"{len(documents)} documents"
            )
        return scores

    async def embed(
        self, documents: list[Document], options: ScoreOptions, until: Deadline
    ) -> Vectors:
        """Embed the documents: vectors [documents, hidden]."""
        return await self._retried(lambda _: self._replicas.embed(documents, options), until)

    async def _retried(self, attempt: Callable[[float], Awaitable[T]], until: Deadline) -> T:
        """Call `attempt` with the seconds left, until it succeeds or retries are exhausted."""
        limit = Deadline.after(self._timeout_s)
        failures = 0
        while True:
            try:
                async with asyncio.timeout(limit.remaining()):
                    return await attempt(min(limit.remaining(), until.remaining()))
            except DeadlineExceeded:
                if until.remaining() <= 0:
                    raise
                continue  # extended meanwhile: requests with a later deadline have joined
            except RerankError:
                raise
            except ImageError as error:
                raise InvalidRequest(f"{error}", param="documents") from error
            except ScoringError as error:
                raise ScoringFailed(str(error)) from error
            except TimeoutError as error:
                raise DeadlineExceeded(
                    f"the model {self.name!r} took longer than {self._timeout_s:g} s; "
                    "send fewer or shorter documents"
                ) from error
            except (Exception, asyncio.CancelledError) as error:
                task = asyncio.current_task()
                if isinstance(error, asyncio.CancelledError) and task and task.cancelling():
                    raise  # this request was cancelled, not just the call to the replica
                failures += 1
                logger.warning("model %s: attempt %d failed: %r", self.name, failures, error)
            if failures > self._max_retries:
                raise ModelUnavailable(
                    f"the model {self.name!r} is not responding; try again in a moment"
                )
            self._telemetry.record_retry(self.name)
            await asyncio.sleep(PAUSE_S * 2 ** (failures - 1))
