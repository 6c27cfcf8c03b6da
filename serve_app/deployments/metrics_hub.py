"""Collects the snapshots of all processes, so that any ingress can report for all of them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping

from ray.serve.handle import DeploymentHandle

from models.remote.types import RemoteSpec
from models.types import ModelInfo, ModelSpec
from serve_app.telemetry import Snapshot, without_gauges
from serve_app.telemetry.ray_metrics import RayMetrics

logger = logging.getLogger("ray.serve")

REPORT_INTERVAL_S = 2.0
# A process that has not reported for this long is gone: its counters stay, its gauges do not.
GONE_AFTER_S = 5 * REPORT_INTERVAL_S


def key_of(spec: ModelSpec | RemoteSpec) -> str:
    """The key of a model with these settings; with others its info may differ."""
    return repr(spec)


class HubReporter:
    """Reports the counts of one process to the hub and to Ray's metrics."""

    def __init__(
        self,
        hub: DeploymentHandle,
        snapshot: Callable[[], Awaitable[Snapshot]],
        models: Callable[[], Mapping[str, ModelInfo]] = dict,
    ) -> None:
        """`snapshot` returns this process's totals, `models` the info of the models it knows."""
        self._hub = hub
        self._snapshot = snapshot
        self._models = models
        self._id = uuid.uuid4().hex
        self._ray_metrics = RayMetrics()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Report every REPORT_INTERVAL_S from now on. Needs a running event loop."""
        self._task = asyncio.get_running_loop().create_task(self._report_forever())

    async def report(self) -> list[Snapshot]:
        """Report once; returns the latest snapshot of every process."""
        own = await self._snapshot()
        await asyncio.to_thread(self._ray_metrics.update, own)
        snapshots: list[Snapshot] = await self._hub.report.remote(self._id, own, self._models())
        return snapshots

    async def _report_forever(self) -> None:
        while True:
            # The hub may be restarting; the next report includes these totals.
            with contextlib.suppress(Exception):
                await self.report()
            await asyncio.sleep(REPORT_INTERVAL_S)


async def recall_info(
    recall: Callable[[], Awaitable[ModelInfo | None]], timeout_s: float
) -> ModelInfo | None:
    """What the hub knows about a model; None if nothing, or if it does not answer in time."""
    try:
        return await asyncio.wait_for(recall(), timeout_s)
    except Exception as error:  # the hub may be starting; callers can ask a replica instead
        logger.debug("model info not available from the hub: %r", error)
        return None


class MetricsHub:
    """Holds the latest snapshot of each ingress and model replica, and the info of loaded models.

    Snapshots are totals, so late or repeated reports do no harm. Replicas send a model's info once
    it is loaded, and ingresses with every report, so a restarted hub recovers both.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._snapshots: dict[str, tuple[float, Snapshot]] = {}
        self._models: dict[str, ModelInfo] = {}

    async def report(
        self, replica: str, snapshot: Snapshot, models: Mapping[str, ModelInfo]
    ) -> list[Snapshot]:
        """Store a replica's totals and return those of all replicas."""
        now = self._clock()
        self._snapshots[replica] = (now, snapshot)
        self._models.update(models)
        return [
            stored if now - reported < GONE_AFTER_S else without_gauges(stored)
            for reported, stored in self._snapshots.values()
        ]

    async def learn(self, key: str, info: ModelInfo) -> None:
        """Store the info of a model that a replica has loaded."""
        self._models[key] = info

    async def recall(self, key: str) -> ModelInfo | None:
        """The model's info, if a replica ever reported it; cached answers then need no replica."""
        return self._models.get(key)
