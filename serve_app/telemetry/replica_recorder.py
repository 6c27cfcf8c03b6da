"""What a replica measures about its calls and batches, and reports to the hub."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from models.engine_stats import Distribution, EngineStats
from serve_app.telemetry.metrics import REPLICA_BUCKETS
from serve_app.telemetry.snapshot import Snapshot


class ReplicaRecorder:
    """The measurements of one replica, under its model's name. Use only on the event loop."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._measured: dict[str, Distribution] = {}

    def add(self, what: str, value: float) -> None:
        """Add a value; `what` is a key of `REPLICA_BUCKETS`."""
        if what not in self._measured:
            self._measured[what] = Distribution(REPLICA_BUCKETS[what])
        self._measured[what].add(value)

    def snapshot(
        self, engine: EngineStats | None = None, representations: Mapping[str, int] | None = None
    ) -> Snapshot:
        """Return everything measured so far, including the engine's measurements if given."""
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
