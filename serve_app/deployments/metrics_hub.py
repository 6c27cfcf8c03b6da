"""Collects the snapshots of all processes, so that any ingress can report for all of them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field

from ray.serve.handle import DeploymentHandle

from models.remote.types import RemoteSpec
from models.types import ModelInfo, ModelSpec
from serve_app.telemetry import Snapshot, merge, since, with_few_keys, without_gauges
from serve_app.telemetry.ray_metrics import RayMetrics

logger = logging.getLogger("ray.serve")

REPORT_INTERVAL_S = 2.0
# A process that has not reported for this long is gone: its counters are added to those of all
# departed processes, its gauges are dropped.
GONE_AFTER_S = 5 * REPORT_INTERVAL_S
# IDs of departed processes that are remembered, in case one of them was only slow.
MAX_DEPARTED = 10_000
# Infos of models that are remembered: each deployment with other settings adds its own.
MAX_MODELS = 1000
LAST_REPORT_TIMEOUT_S = 2.0
# After a restart of the hub, each process has reported within this time.
SETTLED_AFTER_S = 2 * REPORT_INTERVAL_S


def key_of(spec: ModelSpec | RemoteSpec) -> str:
    """The key of a model with these settings; with others its info may differ."""
    return repr(spec)


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model's info, and when it was loaded: seconds since 1970, or 0 if that is unknown."""

    info: ModelInfo
    loaded_at: float = 0.0

    def or_newer(self, other: LoadedModel | None) -> LoadedModel:
        """The one of the two that was loaded last."""
        return other if other is not None and other.loaded_at >= self.loaded_at else self


@dataclass(frozen=True, slots=True)
class Departed:
    """The totals of all departed processes, and how many those are."""

    processes: int = 0
    totals: Snapshot = field(default_factory=Snapshot)


@dataclass(frozen=True, slots=True)
class Report:
    """What a process reports: its totals and the info of the models that it knows.

    `repeated`: it has reported before. `departed`: from an ingress, what a hub answered before.
    """

    process: str
    totals: Snapshot
    models: Mapping[str, LoadedModel] = field(default_factory=dict)
    repeated: bool = False
    departed: Departed | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """The hub's answer to a report.

    `refused`: the reporting process had been counted as departed, and its report was not stored.
    `models`: the newest info of each model, by key. `replicas`: replicas that report, by model.
    `departed` is given to those who report it.
    """

    refused: bool = False
    models: Mapping[str, LoadedModel] = field(default_factory=dict)
    replicas: Counter[str] = field(default_factory=Counter)
    departed: Departed | None = None


class HubReporter:
    """Reports the counts of one process to the hub and to Ray's metrics."""

    def __init__(
        self,
        hub: DeploymentHandle,
        snapshot: Callable[[], Awaitable[Snapshot]],
        models: Callable[[], Mapping[str, LoadedModel]] = dict,
        on_answer: Callable[[Answer], None] = lambda answer: None,
        *,
        keeps_departed: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`snapshot` returns this process's totals, `models` the info of the models it knows.

        `keeps_departed`: keep the totals of departed processes, for a hub that restarts.
        """
        self._hub = hub
        self._snapshot = snapshot
        self._models = models
        self._on_answer = on_answer
        self._clock = clock
        self._id = uuid.uuid4().hex
        # What was reported under earlier IDs, and the last snapshot that the hub has stored.
        self._before: Snapshot | None = None
        self._stored: Snapshot | None = None
        # A report that overtakes another would make the totals decrease.
        self._one_at_a_time = asyncio.Lock()
        self._ray_metrics = RayMetrics()
        self._task: asyncio.Task[None] | None = None
        self._failing: set[str] = set()
        self._answer = Answer()
        self._departed = Departed() if keeps_departed else None
        self._answered_at: float | None = None

    @property
    def replicas(self) -> Counter[str] | None:
        """Replicas that report, by model; None if the hub has not answered lately."""
        at = self._answered_at
        recent = at is not None and self._clock() - at < GONE_AFTER_S
        return self._answer.replicas if recent else None

    def start(self) -> None:
        """Report every REPORT_INTERVAL_S from now on. Needs a running event loop."""
        self._task = asyncio.get_running_loop().create_task(self._report_forever())

    async def stop(self) -> None:
        """Report what was counted since the last report, and stop."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self.report(), LAST_REPORT_TIMEOUT_S)

    async def report(self) -> None:
        """Report once. Totals that do not arrive are part of the next report."""
        async with self._one_at_a_time:
            own = await self._snapshot()
            with self._logged("Ray's metrics"):
                await asyncio.to_thread(self._ray_metrics.update, own)
            answer = await self._send(own)
            if answer.refused:
                # Its counts up to `_stored` are among those of departed processes: go on from
                # there as another process.
                self._id, self._before = uuid.uuid4().hex, self._stored
                answer = await self._send(own)
            self._stored = own
            self._answer, self._answered_at = answer, self._clock()
            self._departed = answer.departed
        self._on_answer(answer)

    async def totals(self) -> list[Snapshot]:
        """Report once; return the snapshots of all processes, with one for the departed ones.

        Raises RuntimeError if the hub does not know them yet.
        """
        await self.report()
        snapshots: list[Snapshot] | None = await self._hub.snapshots.remote()
        if snapshots is None:
            raise RuntimeError("the hub was restarted, and not all processes have reported yet")
        return snapshots

    async def _send(self, own: Snapshot) -> Answer:
        new = own if self._before is None else since(own, self._before)
        repeated = self._stored is not None
        report = Report(self._id, new, self._models(), repeated, self._departed)
        answer: Answer = await self._hub.report.remote(report)
        return answer

    async def _report_forever(self) -> None:
        while True:
            # The hub may be restarting.
            with self._logged("the metrics hub"):
                await self.report()
            await asyncio.sleep(REPORT_INTERVAL_S)

    @contextlib.contextmanager
    def _logged(self, receiver: str) -> Iterator[None]:
        """Log an error of the block instead of raising it, and only the first of several."""
        try:
            yield
        except Exception as error:
            if receiver not in self._failing:
                logger.warning("cannot report to %s, trying again: %r", receiver, error)
            self._failing.add(receiver)
        else:
            self._failing.discard(receiver)


async def recall_info(
    recall: Callable[[], Awaitable[LoadedModel | None]], timeout_s: float
) -> LoadedModel | None:
    """What the hub knows about a model; None if nothing, or if it does not answer in time."""
    try:
        return await asyncio.wait_for(recall(), timeout_s)
    except Exception as error:  # the hub may be starting; callers can ask a replica instead
        logger.debug("model info not available from the hub: %r", error)
        return None


class MetricsHub:
    """Holds the latest snapshot of each ingress and model replica, and the info of loaded models.

    Snapshots are totals, and of a model's infos the one that was loaded last counts, so late or
    repeated reports do no harm. Replicas and ingresses send the infos that they know with every
    report, ingresses also the totals of departed processes, so a restarted hub recovers them all.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._snapshots: dict[str, tuple[float, Snapshot]] = {}
        self._models: dict[str, LoadedModel] = {}
        self._departed = Departed()
        self._started_at = clock()
        self._restarted = False
        self._departed_ids: dict[str, None] = {}

    async def report(self, report: Report) -> Answer:
        """Store a process's totals."""
        known = report.departed
        if known is not None and known.processes > self._departed.processes:
            self._departed = known
        for key, told in report.models.items():
            self._models[key] = told.or_newer(self._models.get(key))
        while len(self._models) > MAX_MODELS:
            del self._models[min(self._models, key=lambda key: self._models[key].loaded_at)]
        if report.process in self._departed_ids:
            return Answer(refused=True, departed=known)
        self._restarted |= report.repeated and report.process not in self._snapshots
        self._snapshots[report.process] = (self._clock(), report.totals)
        self._fold()
        replicas: Counter[str] = Counter()
        for _, stored in self._snapshots.values():
            replicas.update(stored.replicas)
        departed = None if known is None else self._departed
        return Answer(models=dict(self._models), replicas=replicas, departed=departed)

    async def snapshots(self) -> list[Snapshot] | None:
        """The totals of each process, and those of all departed ones together.

        None shortly after a restart: while some processes have not reported, their counters would
        seem to have been reset.
        """
        if self._restarted and self._clock() - self._started_at < SETTLED_AFTER_S:
            return None
        self._fold()
        return [self._departed.totals, *(stored for _, stored in self._snapshots.values())]

    async def recall(self, key: str) -> LoadedModel | None:
        """The model's info, if a replica ever reported it; cached answers then need no replica."""
        return self._models.get(key)

    def _fold(self) -> None:
        """Add the counters of processes that are gone to those of the departed ones."""
        now = self._clock()
        gone = [p for p, (at, _) in self._snapshots.items() if now - at >= GONE_AFTER_S]
        if not gone:
            return
        left = [without_gauges(self._snapshots.pop(process)[1]) for process in gone]
        totals = with_few_keys(merge([self._departed.totals, *left]))
        self._departed = Departed(self._departed.processes + len(gone), totals)
        self._departed_ids.update(dict.fromkeys(gone))
        while len(self._departed_ids) > MAX_DEPARTED:
            del self._departed_ids[next(iter(self._departed_ids))]
