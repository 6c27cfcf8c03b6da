"""One place where what every replica knows meets, so that each ingress can answer for all."""

from __future__ import annotations

from collections.abc import Mapping

from models.types import ModelInfo, ModelSpec
from serve_app.telemetry import Snapshot


def key_of(spec: ModelSpec) -> str:
    """A model under these settings; under others it may turn out to be something else."""
    return repr(spec)


class MetricsHub:
    """Keeps the latest snapshot of each ingress replica, and what loaded models turned out to be.

    Snapshots are totals, so a late or repeated report does no harm. Models are told by replicas
    when they have loaded, and again with every report: a hub that was restarted learns both anew.
    """

    def __init__(self) -> None:
        self._snapshots: dict[str, Snapshot] = {}
        self._models: dict[str, ModelInfo] = {}

    async def report(
        self, replica: str, snapshot: Snapshot, models: Mapping[str, ModelInfo]
    ) -> list[Snapshot]:
        """Store one replica's totals and return everybody's."""
        self._snapshots[replica] = snapshot
        self._models.update(models)
        return list(self._snapshots.values())

    async def learn(self, key: str, info: ModelInfo) -> None:
        """A replica has loaded this model."""
        self._models[key] = info

    async def recall(self, key: str) -> ModelInfo | None:
        """What the model is, if a replica has ever said so: answers need none then."""
        return self._models.get(key)
