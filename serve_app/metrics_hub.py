"""One place where every ingress replica's figures meet, so that each can answer for all."""

from __future__ import annotations

from serve_app.telemetry import Snapshot


class MetricsHub:
    """Keeps the latest snapshot of each ingress replica; snapshots are totals, so a late or
    repeated report does no harm."""

    def __init__(self) -> None:
        self._snapshots: dict[str, Snapshot] = {}

    async def report(self, replica: str, snapshot: Snapshot) -> list[Snapshot]:
        """Store one replica's totals and return everybody's."""
        self._snapshots[replica] = snapshot
        return list(self._snapshots.values())
