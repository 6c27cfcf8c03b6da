"""The hub of snapshots, and the reports to it."""

from __future__ import annotations

import pickle
from collections import Counter
from typing import cast
from unittest.mock import Mock

import pytest
from ray.serve.handle import DeploymentHandle

from models.engine_stats import ROWS, Distribution
from serve_app.deployments import metrics_hub
from serve_app.deployments.metrics_hub import (
    GONE_AFTER_S,
    REPORT_INTERVAL_S,
    Answer,
    HubReporter,
    LoadedModel,
    MetricsHub,
    Report,
)
from serve_app.telemetry import OTHER_KEYS, Snapshot, Telemetry, merge
from serve_app.telemetry import snapshot as snapshot_module
from tests.serve_app.fakes import INFO, Clock
from tests.serve_app.telemetry.fakes import CACHED, SHARED
from tests.waiting import until


async def snapshots_of(hub: MetricsHub) -> list[Snapshot]:
    snapshots = await hub.snapshots()
    assert snapshots is not None
    return snapshots


async def test_an_exited_process_keeps_its_counters_and_loses_its_gauges() -> None:
    clock = Clock()
    hub = MetricsHub(clock)
    gone = Telemetry().snapshot(waiting=3, active=2, shared=SHARED)
    gone.representations.update(CACHED)
    await hub.report(Report("gone", gone))
    await hub.report(Report("here", Snapshot()))
    assert merge(await snapshots_of(hub)).waiting == 3
    clock.now += GONE_AFTER_S
    await hub.report(Report("here", Snapshot(active=1)))
    left = merge(await snapshots_of(hub))
    assert (left.waiting, left.active) == (0, 1)
    assert left.shared == Counter({"hits": 5, "dropped": 2})
    assert left.representations == Counter({("m", "hits"): 7})


class Hub:
    """A hub's handle whose first report fails; it stores the number of waiting requests."""

    def __init__(self) -> None:
        self.calls = 0
        self.waiting: list[int] = []
        self.report = self

    async def remote(self, report: Report) -> Answer:
        self.calls += 1
        if self.calls == 1:
            raise ConnectionError("the hub is restarting")
        self.waiting.append(report.totals.waiting)
        return Answer()


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


def counting(requests: int, *, key: str = "k", **gauges: int) -> Snapshot:
    telemetry = Telemetry()
    for _ in range(requests):
        telemetry.record_request("native", "m", 200, 0.001, 0.01)
        telemetry.record_usage(key, requests=1)
        telemetry.record_model_usage(key, "m", queries=1)
    one = telemetry.snapshot(**gauges)
    one.distributions["m", "batch_rows"] = Distribution(ROWS)
    for _ in range(requests):
        one.distributions["m", "batch_rows"].add(3)
    return one


def requests_in(snapshots: list[Snapshot]) -> int:
    total = merge(snapshots)
    assert total.wait["m"].total == total.distributions["m", "batch_rows"].total
    return total.requests["native", "m", 200]


async def test_departed_processes_are_one_and_their_counters_stay() -> None:
    clock = Clock()
    hub = MetricsHub(clock)
    sizes, seen = set(), 0
    for i in range(60):
        await hub.report(Report(f"process {i}", counting(i % 3 + 1)))
        clock.now += GONE_AFTER_S / 2
        snapshots = await snapshots_of(hub)
        assert requests_in(snapshots) >= seen
        seen = requests_in(snapshots)
        sizes.add(len(pickle.dumps(snapshots)))
    assert seen == 120
    assert len(snapshots) <= 3
    assert max(sizes) < 4 * min(sizes)


async def test_the_ids_of_departed_processes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_hub, "MAX_DEPARTED", 3)
    clock = Clock()
    hub = MetricsHub(clock)
    for i in range(8):
        await hub.report(Report(f"process {i}", counting(1)))
        clock.now += GONE_AFTER_S
    assert list(hub._departed_ids) == ["process 4", "process 5", "process 6"]


async def test_the_key_names_of_departed_processes_are_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(snapshot_module, "MAX_KEY_NAMES", 3)
    monkeypatch.setattr(snapshot_module, "MAX_PAIRS", 3)
    clock = Clock()
    hub = MetricsHub(clock)
    for i in range(10):
        await hub.report(Report(f"process {i}", counting(1, key=f"key {i}")))
        clock.now += GONE_AFTER_S
    await hub.report(Report("last", Snapshot()))
    total = merge(await snapshots_of(hub))
    assert total.usage.total() == total.usage_by_model.total() == 10
    assert total.usage[OTHER_KEYS, "requests"] == total.usage_by_model[OTHER_KEYS, "m", "queries"]
    assert total.usage[OTHER_KEYS, "requests"] == 7
    assert total.usage["key 0", "requests"] == 1


class Process:
    """A process that counts requests and reports to a hub; its reports can be lost."""

    def __init__(self, hub: MetricsHub) -> None:
        self.requests = 0
        self.lost = self.unanswered = False
        handle = Mock()
        handle.report.remote = self._deliver
        handle.snapshots.remote = self._snapshots
        self.hub = hub
        self.reporter = HubReporter(handle, self._snapshot, keeps_departed=True)

    async def _snapshot(self) -> Snapshot:
        return counting(self.requests, waiting=1)

    async def _snapshots(self) -> list[Snapshot] | None:
        return await self.hub.snapshots()

    async def _deliver(self, report: Report) -> Answer:
        if self.lost:
            raise ConnectionError("the hub is restarting")
        answer = await self.hub.report(report)
        if self.unanswered:
            raise ConnectionError("the answer was lost")
        return answer


@pytest.fixture
def _no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_hub, "RayMetrics", Mock)


@pytest.mark.usefixtures("_no_ray")
async def test_a_process_that_was_only_slow_is_not_counted_twice() -> None:
    clock = Clock()
    hub = MetricsHub(clock)
    slow, other = Process(hub), Process(hub)
    slow.requests, other.requests = 5, 1
    await slow.reporter.report()
    for more in (2, 3):
        clock.now += GONE_AFTER_S
        await other.reporter.report()
        assert requests_in(await snapshots_of(hub)) == slow.requests + 1
        slow.requests += more
        snapshots = await slow.reporter.totals()
        assert requests_in(snapshots) == slow.requests + 1
        assert merge(snapshots).waiting == 2


@pytest.mark.usefixtures("_no_ray")
async def test_lost_reports_and_answers_lose_no_counts() -> None:
    hub = MetricsHub()
    process = Process(hub)
    process.requests = 3
    await process.reporter.report()
    for kind in ("lost", "unanswered"):
        setattr(process, kind, True)
        process.requests += 2
        with pytest.raises(ConnectionError):
            await process.reporter.report()
        setattr(process, kind, False)
        process.requests += 1
        assert requests_in(await process.reporter.totals()) == process.requests
    # A new hub hears of all that was counted.
    restarted = Process(MetricsHub())
    restarted.requests = process.requests
    assert requests_in(await restarted.reporter.totals()) == process.requests


@pytest.mark.usefixtures("_no_ray")
async def test_what_is_counted_last_is_reported_at_the_stop() -> None:
    hub = MetricsHub()
    process = Process(hub)
    process.reporter.start()
    await until(lambda: len(hub._snapshots) == 1)
    process.requests = 4
    await process.reporter.stop()
    assert requests_in(await snapshots_of(hub)) == 4
    process.lost = True
    await process.reporter.stop()  # without a hub it stops too


async def test_a_failure_of_rays_metrics_does_not_stop_the_report_and_is_logged_once(
    monkeypatch: pytest.MonkeyPatch, serve_log: pytest.LogCaptureFixture
) -> None:
    broken = Mock()
    broken.return_value.update.side_effect = ValueError("an unknown metric")
    monkeypatch.setattr(metrics_hub, "RayMetrics", broken)
    hub = MetricsHub()
    process = Process(hub)
    for process.requests in (1, 2):
        await process.reporter.report()
    assert requests_in(await snapshots_of(hub)) == 2
    assert serve_log.text.count("an unknown metric") == 1


@pytest.mark.usefixtures("_no_ray")
async def test_the_replicas_that_report_are_known_while_the_hub_answers() -> None:
    clock = Clock()
    hub = MetricsHub(clock)
    await hub.report(Report("replica", Snapshot(replicas=Counter({"m": 1}))))
    process = Process(hub)
    process.reporter._clock = clock
    assert process.reporter.replicas is None
    await process.reporter.report()
    assert process.reporter.replicas == Counter({"m": 1})
    clock.now += GONE_AFTER_S
    assert process.reporter.replicas is None
    await process.reporter.report()
    assert process.reporter.replicas == Counter()


async def test_a_bounded_number_of_models_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_hub, "MAX_MODELS", 3)
    hub = MetricsHub()
    for i in range(6):
        await hub.report(Report("process", Snapshot(), {f"model {i}": LoadedModel(INFO, i)}))
    assert set(hub._models) == {"model 3", "model 4", "model 5"}


@pytest.mark.usefixtures("_no_ray")
async def test_counters_do_not_decrease_when_the_hub_restarts() -> None:
    clock = Clock()
    hub = MetricsHub(clock)
    processes = [Process(hub) for _ in range(3)]
    for number, process in enumerate(processes, 1):
        process.requests = number
        await process.reporter.report()
    clock.now += GONE_AFTER_S  # the first one has exited
    for process in processes[1:]:
        await process.reporter.report()
    assert requests_in(await processes[1].reporter.totals()) == 6
    restarted = MetricsHub(clock)
    for process in processes[1:]:
        process.hub = restarted
    with pytest.raises(RuntimeError, match="not all processes have reported"):
        await processes[1].reporter.totals()
    clock.now += REPORT_INTERVAL_S
    await processes[2].reporter.report()
    clock.now += REPORT_INTERVAL_S
    assert requests_in(await processes[1].reporter.totals()) == 6
    # A hub that starts with the application answers at once.
    first = Process(MetricsHub(clock))
    first.requests = 1
    assert requests_in(await first.reporter.totals()) == 1
