"""One place where what every process knows meets, so that each ingress can answer for all."""

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
from serve_app.telemetry import Snapshot, settled
from serve_app.telemetry.ray_metrics import RayMetrics

logger = logging.getLogger("ray.serve")

REPORT_INTERVAL_S = 2.0
# A process that has not reported for so long is gone: its counts stay, what it held does not.
GONE_AFTER_S = 5 * REPORT_INTERVAL_S


def key_of(spec: ModelSpec | RemoteSpec) -> str:
    """A model under these settings; under others it may turn out to be something else."""
    return repr(spec)


class HubReporter:
    """Reports what one process has counted, to the hub and to Ray's metrics."""

    def __init__(
        self,
        hub: DeploymentHandle,
        snapshot: Callable[[], Awaitable[Snapshot]],
        models: Callable[[], Mapping[str, ModelInfo]] = dict,
    ) -> None:
        """`snapshot` returns this process's totals, `models` what it knows of loaded models."""
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
        await asyncio.to_thread(self._ray_metrics.tell, own)
        snapshots: list[Snapshot] = await self._hub.report.remote(self._id, own, self._models())
        return snapshots

    async def _report_forever(self) -> None:
        while True:
            # The hub may be restarting; the next report carries the same totals.
            with contextlib.suppress(Exception):
                await self.report()
            await asyncio.sleep(REPORT_INTERVAL_S)


async def recalled(
    recall: Callable[[], Awaitable[ModelInfo | None]], timeout_s: float
) -> ModelInfo | None:
    """What the hub knows of a model; None where it does not, or does not answer in time."""
    try:
        return await asyncio.wait_for(recall(), timeout_s)
    except Exception as error:  # it may be starting; a replica can still be asked
        logger.debug("what models are is not recalled: %r", error)
        return None


class MetricsHub:
    """Keeps the latest snapshot of each ingress and model replica, and what loaded models are.

    Snapshots are totals, so a late or repeated report does no harm. Models are told by replicas
    when they have loaded, and again with every report: a hub that was restarted learns both anew.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._snapshots: dict[str, tuple[float, Snapshot]] = {}
        self._models: dict[str, ModelInfo] = {}

    async def report(
        self, replica: str, snapshot: Snapshot, models: Mapping[str, ModelInfo]
    ) -> list[Snapshot]:
        """Store one replica's totals and return everybody's."""
        now = self._clock()
        self._snapshots[replica] = (now, snapshot)
        self._models.update(models)
        return [
            one if now - at < GONE_AFTER_S else settled(one) for at, one in self._snapshots.values()
        ]

    async def learn(self, key: str, info: ModelInfo) -> None:
        """A replica has loaded this model."""
        self._models[key] = info

    async def recall(self, key: str) -> ModelInfo | None:
        """What the model is, if a replica has ever said so: answers need none then."""
        return self._models.get(key)
