"""The hub of snapshots, and the reports to it."""

from __future__ import annotations

from collections import Counter

from serve_app.deployments.metrics_hub import GONE_AFTER_S, MetricsHub
from serve_app.telemetry import Snapshot, Telemetry, merge
from tests.serve_app.fakes import Clock
from tests.serve_app.telemetry.fakes import CACHED, SHARED


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
