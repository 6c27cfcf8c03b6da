"""The model replica: tokenise in one thread, merge requests' rows, run them in another.

Work whose time is up, or whose caller has gone, is dropped wherever it waits: in the encoders'
queue, in a turn, in the batch queue.
"""

from __future__ import annotations

import asyncio
import logging
import math
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
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
from serve_app.deployments.call_trace import Call, told
from serve_app.deployments.fairness import Turns
from serve_app.deployments.loading import earlier, load_scorer
from serve_app.deployments.metrics_hub import key_of, report_for_ever
from serve_app.deployments.serve_logging import follow_serve
from serve_app.deployments.watchdog import ended_after
from serve_app.errors import DeadlineExceeded
from serve_app.service.deadline import Deadline, within
from serve_app.settings.base import Frozen
from serve_app.telemetry import tracing
from serve_app.telemetry.ray_metrics import RayMetrics
from serve_app.telemetry.replica_recorder import ReplicaFigures

# One merged batch holds so many micro-batches: enough to sort rows by length, short enough
# that a request that comes next does not wait long.
MICRO_BATCHES_PER_BATCH = 8

logger = logging.getLogger("ray.serve")


class BatchOptions(Frozen):
    """`window_ms`: milliseconds to wait for more chunks; `batch_tokens`: tokens of one merged
    batch, in which rows are sorted into micro-batches. What is left out stays as it is."""

    window_ms: float | None = Field(None, ge=0, le=1000)
    batch_tokens: int | None = Field(None, ge=1)

    @staticmethod
    def of(user_config: Mapping[str, Any]) -> BatchOptions:
        """Raises ValueError that names what is wrong."""
        try:
            return BatchOptions.model_validate(user_config)
        except ValidationError as error:
            problems = "; ".join(f"{e['loc'][0]}: {e['msg']}" for e in error.errors() if e["loc"])
            raise ValueError(f"user_config: {problems or 'not an object'}") from None


@dataclass(slots=True)
class _Limit:
    """Tokens of a merged batch; what waits already sees it change."""

    tokens: int


@dataclass(slots=True)
class _Job:
    """One chunk on its way through the replica; `begun` once a forward pass has it."""

    limit: _Limit
    call: Call
    encoded: Encoded = field(default_factory=lambda: Encoded((), (), ()))
    begun: bool = False


class ModelReplica:
    """Scores pairs with one loaded model."""

    # Another one in a subclass.
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
        """`hang_s`: seconds that a forward pass may take before the process ends. `hub` is told
        what the model turned out to be, asked what was found earlier, and gets the figures
        of dropped work and of kept representations."""
        follow_serve()
        self._meter = Meter()
        self._encoders = ThreadPoolExecutor(1, thread_name_prefix="encode")
        self._forwards = ThreadPoolExecutor(1, thread_name_prefix="forward")
        loop = asyncio.get_running_loop()
        self._scorer: Scorer = await loop.run_in_executor(
            self._forwards, self.load, spec, warmup, await earlier(hub, spec)
        )
        info = self._scorer.info
        # A processor is busy for long with a chunk; a GPU would idle between two.
        shared, alone = (1, 2) if info.device == "cpu" else (4, 8)
        self._turns = Turns(info.token_budget // 8, shared=shared, alone=alone)
        self._limit = _Limit(1)
        self._merge_up_to(info.token_budget * MICRO_BATCHES_PER_BATCH if micro_batch else 1)
        self._forward.set_batch_wait_timeout_s(window_ms / 1000)
        self._figures = ReplicaFigures(info.name)
        self._ray_metrics = RayMetrics()
        self._hang_s = hang_s
        self._dropped = 0
        self._id = uuid.uuid4().hex
        self._reports: asyncio.Task[None] | None = None
        if hub is not None:
            # Not waited for: at the first start the hub may be starting too.
            self._told = hub.learn.remote(key_of(spec), info)
            self._reports = loop.create_task(report_for_ever(partial(self._report, hub)))

    def reconfigure(self, user_config: Mapping[str, Any]) -> None:
        """Take `window_ms` and `batch_tokens` (of one merged batch) while requests go on.

        Ray Serve calls it with the deployment's `user_config`, at the start and whenever that
        changes. Raises ValueError for what it does not know or can't take.
        """
        options = BatchOptions.of(user_config)
        if options.window_ms is not None:
            self._forward.set_batch_wait_timeout_s(options.window_ms / 1000)
        if options.batch_tokens is not None:
            self._merge_up_to(options.batch_tokens)
        logger.info("model %s merges with %s", self._scorer.info.name, options)

    def _merge_up_to(self, tokens: int) -> None:
        self._limit.tokens = tokens
        self._forward.set_max_batch_size(tokens)

    async def info(self) -> ModelInfo:
        """What the loaded model is."""
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

        `trace`: the caller's span, where it traces. Raises ScoringError when a logit is not
        finite, DeadlineExceeded after `timeout_s` seconds: what has not begun by then is never run.
        """
        job = _Job(self._limit, Call(self._figures, trace))
        try:
            async with within(Deadline.after(timeout_s).at, "a chunk"):
                return await self._run(job, query, documents, options)
        except (asyncio.CancelledError, DeadlineExceeded):
            self._dropped += not job.begun
            raise

    async def _run(
        self, job: _Job, query: str, documents: Sequence[Document], options: ScoreOptions
    ) -> list[Score]:
        loop = asyncio.get_running_loop()
        with self._meter.holding(query, documents) as load:
            # Cancelled while it waits for the thread, it never gets there.
            encoded = await loop.run_in_executor(
                self._encoders, job.call.encoded, self._scorer.encode, query, documents, options
            )
            load.weigh(encoded.cost)
            async with self._turns.turn(query, encoded.cost):
                job.encoded = encoded
                # Serve leaves out of a batch what was cancelled before the batch's turn came.
                scores: list[Score] = await self._forward(job)
            job.call.ended(len(documents))
        return scores

    async def embed(
        self, documents: Sequence[Document], options: ScoreOptions = DEFAULTS
    ) -> Vectors:
        """Vectors [documents, hidden]. Raises ScoringError where the model has no embeddings."""
        loop = asyncio.get_running_loop()
        with self._meter.holding("", documents) as load:
            encoded = await loop.run_in_executor(
                self._encoders, self._scorer.encode_documents, documents, options
            )
            load.weigh(encoded.cost)
            # Rows that are new are few: after a ranking by the same model there are none.
            return await loop.run_in_executor(self._forwards, self._scorer.embed, encoded)

    async def _report(self, hub: DeploymentHandle) -> None:
        own = self._figures.snapshot(self._scorer.engine_stats, self._scorer.representation_stats())
        if self._dropped:
            own.upstream[self._scorer.info.name, "dropped"] = self._dropped
        await asyncio.to_thread(self._ray_metrics.tell, own)
        await hub.report.remote(self._id, own, {})

    def __del__(self) -> None:
        # Ray Serve calls it when the replica stops.
        tracing.flush()

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """What the autoscaling policy counts; Ray Serve asks for it."""
        return {METRIC: float(self._meter.pending)}

    @serve.batch(batch_size_fn=lambda items: _cost(items))  # type: ignore[untyped-decorator]
    async def _forward(self, jobs: list[_Job]) -> list[list[Score]]:
        loop = asyncio.get_running_loop()
        for job in jobs:
            job.begun = True
        batch = [job.encoded for job in jobs]
        with (
            ended_after(self._hang_s),
            told(self._scorer, [job.call for job in jobs], self._figures),
        ):
            return await loop.run_in_executor(self._forwards, self._scorer.forward, batch)


def _cost(jobs: Sequence[_Job]) -> int:
    """Tokens in a batch; a chunk alone always fits, since Serve refuses an item over the limit."""
    total = sum(job.encoded.cost for job in jobs)
    return min(total, jobs[0].limit.tokens) if len(jobs) == 1 else total
