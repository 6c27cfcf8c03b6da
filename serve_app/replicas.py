"""The model replica: tokenise in one thread, merge requests' rows, run them in another."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from ray import serve
from ray.serve.handle import DeploymentHandle

from models.types import (
    DEFAULTS,
    Document,
    Encoded,
    ModelInfo,
    ModelLoadError,
    ModelSpec,
    Score,
    ScoreOptions,
    Scorer,
)
from serve_app.metrics_hub import REPORT_INTERVAL_S
from serve_app.telemetry import Snapshot

LOAD_FAILED = "MODEL CANNOT BE LOADED: "
# One merged batch holds so many micro-batches: enough to sort rows by length, short enough
# that a request that comes next does not wait long.
MICRO_BATCHES_PER_BATCH = 8

logger = logging.getLogger("ray.serve")


def available_cores() -> int:
    """Cores that this process may run on (Ray tells torch 1 for an actor with no CPU share)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class ModelReplica:
    """Scores pairs with one loaded model."""

    def __init__(
        self,
        spec: ModelSpec,
        *,
        micro_batch: bool,
        window_ms: float,
        warmup: bool,
        hub: DeploymentHandle | None = None,
    ) -> None:
        """`hub`: where the figures of kept representations are reported."""
        # Imported here: the ingress process imports this module and must stay free of torch.
        from models.registry import load

        started = time.perf_counter()
        logger.info("loading model %s from %s", spec.name, spec.source)
        try:
            self._scorer: Scorer = load(replace(spec, threads=spec.threads or available_cores()))
        except ModelLoadError as error:
            # One line, so that whoever reads the deployment's status can find its end.
            raise RuntimeError(LOAD_FAILED + " ".join(str(error).split())) from None
        if warmup:
            self._scorer.score("warm up", ["a document of a few words"] * 4)
            # Compiled modules would be compiled anew for each budget that is tried.
            if spec.token_budget is None and not spec.compile:
                self._scorer.find_budget()
        info = self._scorer.info
        logger.info(
            "model %s is ready in %.1f s: %s on %s, %s, %d tokens a micro-batch",
            info.name,
            time.perf_counter() - started,
            info.backend,
            info.device,
            info.dtype,
            info.token_budget,
        )
        self._limit = info.token_budget * MICRO_BATCHES_PER_BATCH if micro_batch else 1
        self._encoders = ThreadPoolExecutor(1, thread_name_prefix="encode")
        self._forwards = ThreadPoolExecutor(1, thread_name_prefix="forward")
        self._forward.set_max_batch_size(self._limit)
        self._forward.set_batch_wait_timeout_s(window_ms / 1000)
        self._id = uuid.uuid4().hex
        self._reports: asyncio.Task[None] | None = None
        if hub is not None and self._scorer.stats():
            self._reports = asyncio.get_event_loop().create_task(self._report_for_ever(hub))

    async def info(self) -> ModelInfo:
        """What the loaded model is."""
        return self._scorer.info

    async def score(
        self, query: str, documents: Sequence[Document], options: ScoreOptions = DEFAULTS
    ) -> list[Score]:
        """Scores in the documents' order. Raises ScoringError when a logit is not finite."""
        loop = asyncio.get_running_loop()
        encoded = await loop.run_in_executor(
            self._encoders, self._scorer.encode, query, documents, options
        )
        scores: list[Score] = await self._forward((self._limit, encoded))
        return scores

    async def _report_for_ever(self, hub: DeploymentHandle) -> None:
        name = self._scorer.info.name
        while True:
            figures = Counter({(name, what): n for what, n in self._scorer.stats().items()})
            # The hub may be restarting; the next report carries the same totals.
            with contextlib.suppress(Exception):
                await hub.report.remote(self._id, Snapshot(representations=figures))
            await asyncio.sleep(REPORT_INTERVAL_S)

    @serve.batch(batch_size_fn=lambda items: _cost(items))  # type: ignore[untyped-decorator]
    async def _forward(self, items: list[tuple[int, Encoded]]) -> list[list[Score]]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._forwards, self._scorer.forward, [encoded for _, encoded in items]
        )


def _cost(items: Sequence[tuple[int, Encoded]]) -> int:
    """Tokens in a batch; a chunk alone always fits, since Serve refuses an item over the limit."""
    limit = items[0][0]
    total = sum(encoded.cost for _, encoded in items)
    return min(total, limit) if len(items) == 1 else total
