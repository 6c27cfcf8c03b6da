"""The model replica: tokenises in one thread, merges requests into batches, scores in another.

Large calls, longer than SMALL_CALL_BATCHES micro-batches, have threads of their own, and take turns
with the merged batches, one micro-batch each. So a small call waits for no more than a micro-batch
of a large one.

Work that has timed out or was cancelled by its caller is dropped wherever it waits: for the
tokeniser, for its turn or in the batch queue, and in a large call between two micro-batches.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import Field, ValidationError
from ray import serve
from ray.serve.handle import DeploymentHandle

from models.concurrency import at_checkpoints
from models.types import (
    DEFAULTS,
    Document,
    Encoded,
    ModelInfo,
    ModelSpec,
    Score,
    ScoreOptions,
    Scorer,
    ScoringError,
)
from models.vectors import Vectors
from serve_app.deployments.autoscaling import CHARACTERS_PER_TOKEN, METRIC, Meter
from serve_app.deployments.call_trace import CallTrace, trace_batch
from serve_app.deployments.fairness import FairQueue
from serve_app.deployments.loading import info_from_hub, load_scorer
from serve_app.deployments.metrics_hub import key_of
from serve_app.deployments.scoring_replica import ScoringReplica, Work
from serve_app.deployments.watchdog import GRACE_S, Watchdog
from serve_app.errors import ScoringFailed
from serve_app.service.retries import MergedCallsFailed
from serve_app.settings.base import Frozen
from serve_app.telemetry import Snapshot
from serve_app.telemetry.replica_recorder import ReplicaRecorder

# Micro-batches per merged batch: enough to sort rows by length, few enough that the next request
# does not wait long.
MICRO_BATCHES_PER_BATCH = 8
# Micro-batches of the longest call that is merged with others. An ordinary chunk has about one.
SMALL_CALL_BATCHES = 2
# Large calls that run at a time, one micro-batch each in turn; the others wait.
LARGE_CALLS = 4
# Characters of a call that is tokenised in the thread for long texts. An ordinary chunk has fewer.
LONG_CALL_CHARS = 65_536

T = TypeVar("T")

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

        `hang_s`: seconds that a micro-batch may take before the process exits. `hub` receives
        this replica's model info and metrics, and provides the info of an earlier replica.
        """
        super().__init__()
        self._meter = Meter()
        self._encoders = ThreadPoolExecutor(1, thread_name_prefix="encode")
        self._long_encoders = ThreadPoolExecutor(1, thread_name_prefix="encode-long")
        self._forwards = ThreadPoolExecutor(1, thread_name_prefix="forward")
        self._large_forwards = ThreadPoolExecutor(LARGE_CALLS, thread_name_prefix="forward-large")
        self._large_calls = asyncio.Semaphore(LARGE_CALLS)
        self._watchdog = Watchdog(hang_s)
        self._hanging: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._watcher = asyncio.create_task(self._watch(min(1.0, hang_s / 10)))
        loop = asyncio.get_running_loop()
        self._scorer: Scorer = await loop.run_in_executor(
            self._forwards, self.load, spec, warmup, await info_from_hub(hub, spec)
        )
        info = self._scorer.info
        # A chunk keeps a CPU busy for long; a GPU would idle between chunks.
        shared, alone = (1, 2) if info.device == "cpu" else (4, 8)
        self._queue = FairQueue(info.token_budget // 8, shared=shared, alone=alone)
        # The same by characters, before a call is tokenised: for the thread that tokenises, and to
        # bound the tokenised calls that wait.
        large = info.token_budget // 8 * CHARACTERS_PER_TOKEN
        self._encode_queue = FairQueue(large, shared=1, alone=2)
        self._held_queue = FairQueue(large, shared=4 * shared, alone=4 * alone)
        self._limit = _Limit(1)
        self._merge_up_to(info.token_budget * MICRO_BATCHES_PER_BATCH if micro_batch else 1)
        self._forward.set_batch_wait_timeout_s(window_ms / 1000)
        self._figures = ReplicaRecorder(info.name)
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
        chars = len(query) + sum(map(len, documents))
        with self._meter.holding(query, documents) as load:
            async with self._held_queue.slot(query, chars):
                async with self._encode_queue.slot(query, chars):
                    job.encoded = await self._encode(
                        chars, job.call.encode, self._scorer.encode, query, documents, options
                    )
                load.weigh(job.encoded.cost)
                async with self._queue.slot(query, job.encoded.cost):
                    large = self._scorer.info.token_budget * SMALL_CALL_BATCHES
                    if work.alone or job.encoded.cost > large:
                        scores = await self._score_alone(job)
                    else:
                        # Serve leaves cancelled jobs out of a batch until the batch starts.
                        scores = await self._forward(job)
                    if isinstance(scores, ScoringError):
                        raise scores
            job.call.finish(len(documents))
        return scores

    async def embed(
        self, documents: Sequence[Document], options: ScoreOptions = DEFAULTS
    ) -> Vectors:
        """Embed the documents: vectors [documents, hidden]. Raises ScoringError if unsupported."""
        chars = sum(map(len, documents))
        with self._meter.holding("", documents) as load:
            encoded = await self._encode(chars, self._scorer.encode_documents, documents, options)
            load.weigh(encoded.cost)
            # Not batched: few rows are new, and none after a ranking by the same model.
            async with self._large_calls:
                return await self._run(self._large_forwards, encoded, self._scorer.embed, encoded)

    async def _encode(self, chars: int, encode: Callable[..., Encoded], *args: object) -> Encoded:
        """Tokenise in a thread. If cancelled while waiting for the thread, it never runs."""
        threads = self._long_encoders if chars > LONG_CALL_CHARS else self._encoders
        async with _cancelling() as check:

            def run() -> Encoded:
                with at_checkpoints(check):
                    return encode(*args)

            return await asyncio.get_running_loop().run_in_executor(threads, run)

    async def _score_alone(self, job: _Job) -> list[Score]:
        async with self._large_calls:
            job.work.begun = True
            with trace_batch(self._scorer, [job.call], self._figures):
                (scores,) = await self._run(
                    self._large_forwards, [job], self._scorer.forward, [job.encoded]
                )
        return scores

    async def _run(
        self, threads: Executor, what: object, call: Callable[..., T], *args: object
    ) -> T:
        """Run a call of the scorer in a thread.

        If cancelled, a call in the threads for large ones ends after its micro-batch. Raises
        ScoringFailed or MergedCallsFailed if it hangs.
        """
        large = threads is self._large_forwards
        async with _cancelling() as check:

            def step() -> None:
                if large:
                    check()
                self._watchdog.progress(what)

            def run() -> T:
                with self._watchdog.watching(what), at_checkpoints(step, patient=large):
                    return call(*args)

            running = asyncio.get_running_loop().run_in_executor(threads, run)
            both: set[asyncio.Future[Any]] = {running, self._hanging}
            try:
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
                if running.done() or self._hanging.result() is not what:
                    return await running
            finally:
                running.cancel()
        if isinstance(what, list) and len(what) > 1:
            raise MergedCallsFailed("the replica was stopped, as a batch of several calls hung")
        raise ScoringFailed(
            f"the model {self._scorer.info.name!r} did not finish within the time allowed for one "
            "forward pass (RERANKER_HANG_TIMEOUT), and its replica was restarted; send fewer or "
            "shorter documents"
        )

    async def _watch(self, interval_s: float) -> None:
        """Exit when a forward pass hangs, after failing the calls in it.

        Calls that only waited fail when the process is gone, and are retried.
        """
        while (hanging := self._watchdog.hanging()) is None:  # noqa: ASYNC110
            await asyncio.sleep(interval_s)
        logger.error("a forward pass hangs: the replica exits (RERANKER_HANG_TIMEOUT)")
        faulthandler.dump_traceback(sys.__stderr__ or 2)
        self._hanging.set_result(hanging)
        # Time for the calls' errors to be sent.
        await asyncio.sleep(GRACE_S / 2)
        os._exit(1)

    async def snapshot(self) -> Snapshot:
        own = self._figures.snapshot(self._scorer.engine_stats, self._scorer.representation_stats())
        if self._dropped:
            own.model_events[self._scorer.info.name, "dropped"] = self._dropped
        return own

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Return the metric of the autoscaling policy. Called by Ray Serve."""
        return {METRIC: float(self._meter.pending)}

    @serve.batch(batch_size_fn=lambda items: _cost(items))  # type: ignore[untyped-decorator]
    async def _forward(self, jobs: list[_Job]) -> list[list[Score] | ScoringError]:
        for job in jobs:
            job.work.begun = True
        try:
            return [*await self._merged(jobs)]
        except ScoringError as error:
            if len(jobs) == 1:
                return [error]
        # Only the calls that fail alone too have failed.
        results: list[list[Score] | ScoringError] = []
        for job in jobs:
            try:
                results += await self._merged([job])
            except ScoringError as error:
                results.append(error)
        return results

    async def _merged(self, jobs: list[_Job]) -> list[list[Score]]:
        batch = [job.encoded for job in jobs]
        with trace_batch(self._scorer, [job.call for job in jobs], self._figures):
            return await self._run(self._forwards, jobs, self._scorer.forward, batch)


@asynccontextmanager
async def _cancelling() -> AsyncIterator[Callable[[], None]]:
    """Yield a function that raises CancelledError in a thread once the block has been left."""
    left = False

    def check() -> None:
        if left:
            raise asyncio.CancelledError

    try:
        yield check
    finally:
        left = True


def _cost(jobs: Sequence[_Job]) -> int:
    """Return the tokens of a batch. A single chunk is capped, as Serve refuses larger items."""
    total = sum(job.encoded.cost for job in jobs)
    return min(total, jobs[0].limit.tokens) if len(jobs) == 1 else total
