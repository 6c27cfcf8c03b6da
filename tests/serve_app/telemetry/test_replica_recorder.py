"""What a replica measures."""

from __future__ import annotations

from models.engine_stats import EngineStats
from serve_app.deployments.metrics_hub import MetricsHub, Report
from serve_app.telemetry import merge, to_json, without_gauges
from serve_app.telemetry.replica_recorder import ReplicaRecorder


async def test_replica_measurements_add_up_by_model() -> None:
    hub, engine = MetricsHub(), EngineStats()
    engine.add(rows=4, tokens=90, padding=10, seconds=0.02)
    recorder = ReplicaRecorder("m")
    recorder.add("batch_calls", 2)
    await hub.report(Report("one", recorder.snapshot(engine)))
    await hub.report(Report("other", recorder.snapshot(engine)))
    both = merge(await hub.snapshots() or [])
    model = to_json(both)["models"]["m"]
    assert (model["replicas"], model["engine"]["rows"]) == (2, 8)
    assert model["engine"]["padding_share"] == 0.1
    assert model["measured"]["batch_calls"] == {"count": 2, "sum": 4, "average": 2}
    assert model["measured"]["forward_seconds"]["count"] == 2
    assert without_gauges(both).replicas == {}
    assert without_gauges(both).engine == both.engine
