"""The hub of snapshots, and the reports to it."""

from __future__ import annotations

from collections import Counter
from typing import cast
from unittest.mock import Mock

import pytest
from ray.serve.handle import DeploymentHandle

from serve_app.deployments import metrics_hub
from serve_app.deployments.metrics_hub import GONE_AFTER_S, HubReporter, MetricsHub
from serve_app.telemetry import Snapshot, Telemetry, merge
from tests.serve_app.fakes import Clock
from tests.serve_app.telemetry.fakes import CACHED, SHARED
from tests.waiting import until


async def test_an_exited_process_keeps_its_counters_and_loses_its_gauges() -> None:
    clock = Clock()
    hub = MetricsHub(clock)
    gone = Telemetry().snapshot(waiting=3, active=2, shared=SHARED)
    gone.representations.update(CACHED)
    await hub.report("gone", gone, {})
    assert merge(await hub.report("here", Snapshot(), {})).waiting == 3
    clock.now += GONE_AFTER_S
    left = merge(await hub.report("here", Snapshot(active=1), {}))
    assert (left.waiting, left.active) == (0, 1)
    assert left.shared == Counter({"hits": 5, "dropped": 2})
    assert left.representations == Counter({("m", "hits"): 7})


class Hub:
    """A hub's handle whose first report fails; it stores the number of waiting requests."""

    def __init__(self) -> None:
        self.calls = 0
        self.waiting: list[int] = []
        self.report = self

    async def remote(self, replica: str, own: Snapshot, models: object) -> list[Snapshot]:
        self.calls += 1
        if self.calls == 1:
            raise ConnectionError("the hub is restarting")
        self.waiting.append(own.waiting)
        return [own]


async def test_a_failing_report_does_not_stop_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_hub, "REPORT_INTERVAL_S", 0.01)
    monkeypatch.setattr(metrics_hub, "RayMetrics", Mock)
    hub = Hub()

    async def snapshot() -> Snapshot:
        return Snapshot(waiting=3)

    reporter = HubReporter(cast(DeploymentHandle, hub), snapshot)
    with pytest.raises(ConnectionError):
        await reporter.report()
    hub.calls = 0
    reporter.start()
    try:
        await until(lambda: len(hub.waiting) >= 2)
    finally:
        assert reporter._task is not None
        reporter._task.cancel()
    assert set(hub.waiting) == {3}
