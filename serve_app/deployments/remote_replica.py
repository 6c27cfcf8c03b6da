"""The remote replica: asks a provider, on no device, many requests at once. No torch."""

from __future__ import annotations

import asyncio
import logging
import math
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from ray.serve.handle import DeploymentHandle

from models.registry import load_remote
from models.remote.errors import (
    RemoteConfigError,
    RemoteError,
    RemoteRateLimited,
    RemoteRefused,
    RemoteTimeout,
    RemoteUnauthorized,
    RemoteUnavailable,
)
from models.remote.types import RemoteScorer, RemoteSpec
from models.types import DEFAULTS, Document, ModelInfo, Score, ScoreOptions
from serve_app.deployments.loading import LOAD_FAILED
from serve_app.deployments.metrics_hub import report_forever
from serve_app.deployments.serve_logging import match_console_format
from serve_app.errors import (
    RerankError,
    UpstreamFailed,
    UpstreamRateLimited,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from serve_app.service.deadline import Deadline, within
from serve_app.telemetry import tracing
from serve_app.telemetry.ray_metrics import RayMetrics
from serve_app.telemetry.replica_recorder import ReplicaRecorder

logger = logging.getLogger("ray.serve")

# Any other kind is a 502.
_ERRORS: tuple[tuple[type[RemoteError], type[RerankError]], ...] = (
    (RemoteRefused, UpstreamRefused),
    (RemoteRateLimited, UpstreamRateLimited),
    (RemoteUnavailable, UpstreamUnavailable),
    (RemoteTimeout, UpstreamTimeout),
)


class RemoteReplica:
    """Scores pairs by asking a provider; called as ModelReplica is."""

    def __init__(self, spec: RemoteSpec, hub: DeploymentHandle) -> None:
        match_console_format()
        try:
            self._scorer: RemoteScorer = load_remote(spec)
        except (RemoteConfigError, RemoteUnauthorized) as error:
            # One line, so that whoever reads the deployment's status can find its end.
            raise RuntimeError(LOAD_FAILED + " ".join(str(error).split())) from None
        self._name = spec.name
        self._figures = ReplicaRecorder(spec.name)
        self._ray_metrics = RayMetrics()
        self._hub = hub
        self._id = uuid.uuid4().hex
        self._reporter: asyncio.Task[None] | None = None
        logger.info("model %s is scored by %s", spec.name, self._scorer.info.source)

    async def info(self) -> ModelInfo:
        """What the model is; asks no provider."""
        return self._scorer.info

    async def score(
        self,
        query: str,
        documents: Sequence[Document],
        options: ScoreOptions = DEFAULTS,
        timeout_s: float = math.inf,
        trace: tracing.Carrier | None = None,
    ) -> list[Score]:
        """Scores in the documents' order.

        `trace`: the caller's span, where it traces. Raises a RerankError that says what the
        provider did, DeadlineExceeded after `timeout_s` seconds.
        """
        if trace is not None:
            tracing.start()
        started = time.perf_counter()
        if self._reporter is None:
            self._reporter = asyncio.create_task(report_forever(self._report))
        try:
            with tracing.span("upstream", "client", trace, model=self._name):
                async with within(Deadline.after(timeout_s).at, "a chunk"):
                    return await self._scorer.score(query, documents, options)
        except RemoteError as error:
            logger.warning("model %s: %s", self._name, error)
            raise to_client(error) from None
        finally:
            self._figures.add("upstream_seconds", time.perf_counter() - started)

    async def _report(self) -> None:
        counts = {(self._name, event): n for event, n in self._scorer.counts.items()}
        own = replace(self._figures.snapshot(), model_events=Counter(counts))
        await asyncio.to_thread(self._ray_metrics.update, own)
        await self._hub.report.remote(self._id, own, {})

    def __del__(self) -> None:
        # Ray Serve calls it when the replica stops.
        tracing.flush()


def to_client(error: RemoteError) -> RerankError:
    """The error as the service's caller gets it."""
    kind = next((ours for theirs, ours in _ERRORS if isinstance(error, theirs)), UpstreamFailed)
    answer = kind(str(error))
    if error.retry_after_s is not None and kind.retry_after_s is not None:
        answer.retry_after_s = max(1, math.ceil(error.retry_after_s))
    return answer
