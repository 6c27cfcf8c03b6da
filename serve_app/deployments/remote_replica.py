"""The remote replica: sends requests to a provider, many at once, without device or torch."""

from __future__ import annotations

import logging
import math
import time
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
from models.types import Document, ModelInfo, Score, ScoreOptions
from serve_app.deployments.loading import LOAD_FAILED
from serve_app.deployments.metrics_hub import key_of
from serve_app.deployments.scoring_replica import ScoringReplica, Work
from serve_app.errors import (
    RerankError,
    UpstreamFailed,
    UpstreamRateLimited,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from serve_app.telemetry import Snapshot, tracing
from serve_app.telemetry.replica_recorder import ReplicaRecorder

logger = logging.getLogger("ray.serve")

# Any other error becomes UpstreamFailed (502).
_ERRORS: tuple[tuple[type[RemoteError], type[RerankError]], ...] = (
    (RemoteRefused, UpstreamRefused),
    (RemoteRateLimited, UpstreamRateLimited),
    (RemoteUnavailable, UpstreamUnavailable),
    (RemoteTimeout, UpstreamTimeout),
)


class RemoteReplica(ScoringReplica):
    """Scores pairs through a provider's API."""

    async def __init__(  # type: ignore[misc]  # Ray Serve awaits it
        self, spec: RemoteSpec, hub: DeploymentHandle
    ) -> None:
        super().__init__()
        try:
            self._scorer: RemoteScorer = load_remote(spec)
        except (RemoteConfigError, RemoteUnauthorized) as error:
            # A single line, so that readers of the deployment's status can find its end.
            raise RuntimeError(LOAD_FAILED + " ".join(str(error).split())) from None
        self._name = spec.name
        self._figures = ReplicaRecorder(spec.name)
        self.start_reports(hub, key_of(spec), self._scorer.info)
        logger.info("model %s is scored by %s", spec.name, self._scorer.info.source)

    async def info(self) -> ModelInfo:
        """Return the description of the model, without calling its provider."""
        return self._scorer.info

    async def _score(
        self, query: str, documents: Sequence[Document], options: ScoreOptions, work: Work
    ) -> list[Score]:
        started = time.perf_counter()
        work.begun = True
        try:
            with tracing.span("upstream", "client", work.trace, model=self._name):
                return await self._scorer.score(query, documents, options)
        except RemoteError as error:
            logger.warning("model %s: %s", self._name, error)
            raise to_client(error) from None
        finally:
            self._figures.add("upstream_seconds", time.perf_counter() - started)

    async def stop(self) -> None:
        """Report what was counted last, and close the connections to the provider."""
        await super().stop()
        await self._scorer.close()

    async def snapshot(self) -> Snapshot:
        counts = {(self._name, event): n for event, n in self._scorer.counts.items()}
        return replace(self._figures.snapshot(), model_events=Counter(counts))


def to_client(error: RemoteError) -> RerankError:
    """Convert a provider's error to the one that the client gets."""
    kind = next((ours for theirs, ours in _ERRORS if isinstance(error, theirs)), UpstreamFailed)
    answer = kind(str(error))
    if error.retry_after_s is not None and kind.retry_after_s is not None:
        answer.retry_after_s = max(1, math.ceil(error.retry_after_s))
    return answer
