"""The model replica: tokenises in one thread, merges requests into batches, scores in another.

Work that has timed out or was cancelled by its caller is dropped wherever it waits: for the
tokeniser, for its turn or in the batch queue.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from pydantic import Field, ValidationError
from ray import serve
from ray.serve.handle import DeploymentHandle

from models.types import (
    DEFAULTS,
    Document,
    Encoded,
    ModelInfo,
    ModelSpec,
    Score,
    ScoreOptions,
    Scorer,
)
from models.vectors import Vectors
from serve_app.deployments.autoscaling import METRIC, Meter
from serve_app.deployments.call_trace import CallTrace, trace_batch
from serve_app.deployments.fairness import FairQueue
from serve_app.deployments.loading import info_from_hub, load_scorer
from serve_app.deployments.metrics_hub import key_of
from serve_app.deployments.scoring_replica import ScoringReplica, Work
from serve_app.deployments.watchdog import exit_on_timeout
from serve_app.settings.base import Frozen
from serve_app.telemetry import Snapshot
from serve_app.telemetry.replica_recorder import ReplicaRecorder

# Micro-batches per merged batch: enough to sort rows by length, few enough that the next request
# does not wait long.
MICRO_BATCHES_PER_BATCH = 8

logger = logging.getLogger("ray.serve")


class BatchOptions(Frozen):
    """Batching options that can change at run time; those left out stay as they are.

    `window_ms`: milliseconds to wait for more chunks. `batch_tokens`: tokens per merged batch,
    which is sorted into micro-batches.
    """

    window_ms: float | None = Field(None, ge=0, le=1000)
    batch_tokens: int | None = Field(None, ge=1)

    @staticmethod
    def of(user_config: Mapping[str, Any]) -> BatchOptions:
        """Parse Ray Serve's `user_config`. Raises ValueError naming the wrong field."""
        try:
            return BatchOptions.model_validate(user_config)
        except ValidationError as error:
            problems = "; ".join(f"{e['loc'][0]}: {e['msg']}" for e in error.errors() if e["loc"])
            raise ValueError(f"user_config: {problems or 'not an object'}") from None


@dataclass(slots=True)
class _Limit:
    """Tokens per merged batch, shared by all jobs so that a change applies to waiting ones."""

    tokens: int


@dataclass(slots=True)
class _Job:
    """One chunk on its way through the replica."""

    limit: _Limit
    work: Work
    call: CallTrace
    encoded: Encoded = field(default_factory=lambda: Encoded((), (), ()))


class ModelReplica(ScoringReplica):
    """Scores pairs with one loaded model."""

    # Overridden in subclasses.
    load = staticmethod(load_scorer)

    async def __init__(  # type: ignore[misc]  # Ray Serve awaits it
        self,
        spec: ModelSpec,
        *,
        micro_batch: bool,
        window_ms: float,
        warmup: bool,
        hang_s: float = 3600.0,
        hub: DeploymentHandle | None = None,
    ) -> None:
        """Load the model.

        `hang_s`: seconds that a forward pass may take before the process exits. `hub` receives
        this replica's model info and metrics, and provides the info of an earlier replica.
        """
        super().__init__()
        self._meter = Meter()
        self._encoders = ThreadPoolExecutor(1, thread_name_prefix="encode")
        self._forwards = ThreadPoolExecutor(1, thread_name_prefix="forward")
        loop = asyncio.get_running_loop()
        self._scorer: Scorer = await loop.run_in_executor(
            self._forwards, self.load, spec, warmup, await info_from_hub(hub, spec)
        )
        info = self._scorer.info
        # A chunk keeps a CPU busy for long; a GPU would idle between chunks.
        shared, alone = (1, 2) if info.device == "cpu" else (4, 8)
        self._queue = FairQueue(info.token_budget // 8, shared=shared, alone=alone)
        self._limit = _Limit(1)
        self._merge_up_to(info.token_budget * MICRO_BATCHES_PER_BATCH if micro_batch else 1)
        self._forward.set_batch_wait_timeout_s(window_ms / 1000)
        self._figures = ReplicaRecorder(info.name)
        self._hang_s = hang_s
        if hub is not None:
            self.start_reports(hub, key_of(spec), info)

    def reconfigure(self, user_config: Mapping[str, Any]) -> None:
        """Change `window_ms` and `batch_tokens` while requests are running.

        Called by Ray Serve with the deployment's `user_config`, at the start and on every change.
        Raises ValueError for unknown or invalid options.
        """
        options = BatchOptions.of(user_config)
        if options.window_ms is not None:
            self._forward.set_batch_wait_timeout_s(options.window_ms / 1000)
        if options.batch_tokens is not None:
            self._merge_up_to(options.batch_tokens)
        logger.info("model %s: applied %r", self._scorer.info.name, options)

    def _merge_up_to(self, tokens: int) -> None:
        self._limit.tokens = tokens
        self._forward.set_max_batch_size(tokens)

    async def info(self) -> ModelInfo:
        """Return the description of the loaded model."""
        return self._scorer.info

    async def _score(
        self, query: str, documents: Sequence[Document], options: ScoreOptions, work: Work
    ) -> list[Score]:
        job = _Job(self._limit, work, CallTrace(self._figures, work.trace))
        loop = asyncio.get_running_loop()
        with self._meter.holding(query, documents) as load:
            # If cancelled while waiting for the thread, the call never runs.
            encoded = await loop.run_in_executor(
                self._encoders, job.call.encode, self._scorer.encode, query, documents, options
            )
            load.weigh(encoded.cost)
            async with self._queue.slot(query, encoded.cost):
                job.encoded = encoded
                # Serve leaves cancelled jobs out of a batch until the batch starts.
                scores: list[Score] = await self._forward(job)
            job.call.finish(len(documents))
        return scores

    async def embed(
        self, documents: Sequence[Document], options: ScoreOptions = DEFAULTS
    ) -> Vectors:
        """Embed the documents: vectors [documents, hidden]. Raises ScoringError if unsupported."""
        loop = asyncio.get_running_loop()
        with self._meter.holding("", documents) as load:
            encoded = await loop.run_in_executor(
                self._encoders, self._scorer.encode_documents, documents, options
            )
            load.weigh(encoded.cost)
            # Not batched: few rows are new, and none after a ranking by the same model.
            return await loop.run_in_executor(self._forwards, self._scorer.embed, encoded)

    async def snapshot(self) -> Snapshot:
        own = self._figures.snapshot(self._scorer.engine_stats, self._scorer.representation_stats())
        if self._dropped:
            own.model_events[self._scorer.info.name, "dropped"] = self._dropped
        return own

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Return the metric of the autoscaling policy. Called by Ray Serve."""
        return {METRIC: float(self._meter.pending)}

    @serve.batch(batch_size_fn=lambda items: _cost(items))  # type: ignore[untyped-decorator]
    async def _forward(self, jobs: list[_Job]) -> list[list[Score]]:
        loop = asyncio.get_running_loop()
        for job in jobs:
            job.work.begun = True
        batch = [job.encoded for job in jobs]
        with (
            exit_on_timeout(self._hang_s),
            trace_batch(self._scorer, [job.call for job in jobs], self._figures),
        ):
            return await loop.run_in_executor(self._forwards, self._scorer.forward, batch)


def _cost(jobs: Sequence[_Job]) -> int:
    """Return the tokens of a batch. A single chunk is capped, as Serve refuses larger items."""
    total = sum(job.encoded.cost for job in jobs)
    return min(total, jobs[0].limit.tokens) if len(jobs) == 1 else total
