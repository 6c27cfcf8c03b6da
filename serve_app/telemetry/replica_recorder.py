"""What a replica measures of its calls and batches, and what it reports to the hub."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from models.engine_stats import Distribution, EngineStats
from serve_app.telemetry.metrics import REPLICA_BUCKETS
from serve_app.telemetry.snapshot import Snapshot


class ReplicaFigures:
    """One replica's own measurements, under its model's name. Used on the event loop alone."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._measured: dict[str, Distribution] = {}

    def add(self, what: str, value: float) -> None:
        """One value of what `REPLICA_BUCKETS` names."""
        if what not in self._measured:
            self._measured[what] = Distribution(REPLICA_BUCKETS[what])
        self._measured[what].add(value)

    def snapshot(
        self, engine: EngineStats | None = None, representations: Mapping[str, int] | None = None
    ) -> Snapshot:
        """Everything so far, with what the model's engine counts where it has one."""
        measured = {what: one.copy() for what, one in self._measured.items()}
        if engine is not None:
            measured |= engine.distributions()
        counts = engine.counts() if engine is not None else {}
        return Snapshot(
            engine=Counter(self._of_model(counts)),
            representations=Counter(self._of_model(representations or {})),
            distributions={(self._model, what): one for what, one in measured.items()},
            replicas=Counter({self._model: 1}),
        )

    def _of_model(self, counts: Mapping[str, int]) -> dict[tuple[str, str], int]:
        return {(self._model, what): number for what, number in counts.items()}
