"""The base of local and remote replicas: the score call and metrics reports."""

from __future__ import annotations

import asyncio
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from ray.serve.handle import DeploymentHandle

from models.types import DEFAULTS, Document, ModelInfo, Score, ScoreOptions
from serve_app.deployments.metrics_hub import HubReporter, LoadedModel
from serve_app.deployments.serve_logging import match_console_format
from serve_app.errors import DeadlineExceeded
from serve_app.service.deadline import Deadline, within
from serve_app.service.retries import OtherRevision
from serve_app.telemetry import Snapshot, tracing


@dataclass(slots=True)
class Work:
    """One score call: its caller's span, if it is traced, and whether scoring has begun.

    `alone`: not to be merged with other calls.
    """

    trace: tracing.Carrier | None
    begun: bool = False
    alone: bool = False


class ScoringReplica(ABC):
    """Scores pairs for the ingress and reports its metrics to the hub."""

    def __init__(self) -> None:
        match_console_format()
        self._dropped = 0
        self._reporter: HubReporter | None = None
        self._stopped = True

    def start_reports(self, hub: DeploymentHandle, key: str, info: ModelInfo) -> None:
        """Report metrics and the loaded model to the hub from now on. Needs an event loop."""
        loaded = LoadedModel(info, time.time())
        self._reporter = HubReporter(hub, self.snapshot, lambda: {key: loaded})
        self._reporter.start()
        self._stopped = False

    @abstractmethod
    async def info(self) -> ModelInfo:
        """Return the description of the model."""

    async def score(
        self,
        query: str,
        documents: Sequence[Document],
        options: ScoreOptions = DEFAULTS,
        timeout_s: float = math.inf,
        trace: tracing.Carrier | None = None,
        revision: str | None = None,
        alone: bool = False,
    ) -> list[Score]:
        """Score the documents, in their order: as OtherRevision if the model is not `revision`.

        `trace`: the caller's span, if it is traced. `alone`: whether not to merge the call with
        others. Raises DeadlineExceeded after `timeout_s`
        seconds; work that has not begun by then is dropped. Raises ScoringError if a logit is not
        finite, and a RerankError for a provider's failure.
        """
        if trace is not None:
            tracing.start()
        work = Work(trace, alone=alone)
        try:
            async with within(Deadline.after(timeout_s).at, "a chunk"):
                scores = await self._score(query, documents, options, work)
                if revision not in (None, (await self.info()).revision):
                    return OtherRevision(scores)
                return scores
        except (asyncio.CancelledError, DeadlineExceeded):
            self._dropped += not work.begun
            raise

    @abstractmethod
    async def _score(
        self, query: str, documents: Sequence[Document], options: ScoreOptions, work: Work
    ) -> list[Score]:
        """Score the documents. Sets `work.begun` once dropping the call would save no work."""

    @abstractmethod
    async def snapshot(self) -> Snapshot:
        """Return this replica's metrics."""

    async def stop(self) -> None:
        """Report what was counted last, and close what is open."""
        if self._reporter is not None:
            await self._reporter.stop()

    def __del__(self) -> Coroutine[Any, Any, None] | None:
        # Ray Serve calls it when the replica stops, and awaits what it returns. The interpreter,
        # which calls it as well, would not.
        tracing.flush()
        if getattr(self, "_stopped", True):
            return None
        self._stopped = True
        return self.stop()
