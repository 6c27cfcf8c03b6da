"""One place where every process's figures meet, so that each ingress replica can answer for all."""

from __future__ import annotations

import time
from collections.abc import Callable

from serve_app.telemetry import Snapshot, settled

REPORT_INTERVAL_S = 2.0
# A process that has not reported for so long is gone: its counts stay, what it held does not.
GONE_AFTER_S = 5 * REPORT_INTERVAL_S


class MetricsHub:
    """Keeps the latest snapshot of each ingress and model replica; snapshots are totals, so a
    late or repeated report does no harm."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._snapshots: dict[str, tuple[float, Snapshot]] = {}

    async def report(self, replica: str, snapshot: Snapshot) -> list[Snapshot]:
        """Store one replica's totals and return everybody's."""
        now = self._clock()
        self._snapshots[replica] = (now, snapshot)
        return [
            one if now - at < GONE_AFTER_S else settled(one) for at, one in self._snapshots.values()
        ]
