"""The score call of a replica: late work is dropped and counted."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Sequence

import pytest

from models.types import Document, ModelInfo, Score, ScoreOptions
from serve_app.deployments.scoring_replica import ScoringReplica, Work
from serve_app.errors import DeadlineExceeded
from serve_app.service.retries import OtherRevision
from serve_app.telemetry import Snapshot
from tests.serve_app.fakes import INFO
from tests.waiting import settle


class Replica(ScoringReplica):
    """Begins its work if `begins`, and finishes it once `gate` is set."""

    def __init__(self, *, begins: bool) -> None:
        super().__init__()
        self.begins = begins
        self.gate = asyncio.Event()

    async def info(self) -> ModelInfo:
        return INFO

    async def _score(
        self, query: str, documents: Sequence[Document], options: ScoreOptions, work: Work
    ) -> list[Score]:
        work.begun = self.begins
        await self.gate.wait()
        return [Score(1.0, 1, False) for _ in documents]

    async def snapshot(self) -> Snapshot:
        counts = Snapshot()
        counts.model_events["words", "dropped"] = self._dropped
        return counts

    async def dropped(self) -> int:
        return (await self.snapshot()).model_events["words", "dropped"]


@pytest.mark.parametrize(("begins", "dropped"), [(False, 1), (True, 0)])
async def test_late_work_counts_as_dropped_unless_it_has_begun(begins: bool, dropped: int) -> None:
    replica = Replica(begins=begins)
    with pytest.raises(DeadlineExceeded, match="a chunk was dropped"):
        await replica.score("q", ["d"], timeout_s=0.01)
    assert await replica.dropped() == dropped


@pytest.mark.parametrize(("begins", "dropped"), [(False, 1), (True, 0)])
async def test_cancelled_work_counts_as_dropped_unless_it_has_begun(
    begins: bool, dropped: int
) -> None:
    replica = Replica(begins=begins)
    call = asyncio.create_task(replica.score("q", ["d"]))
    await settle()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert await replica.dropped() == dropped


async def test_work_in_time_is_not_dropped() -> None:
    replica = Replica(begins=False)
    replica.gate.set()
    assert len(await replica.score("q", ["a", "b"], timeout_s=30)) == 2
    assert await replica.dropped() == 0


@pytest.mark.parametrize(("revision", "other"), [(None, False), ("1", False), ("2", True)])
async def test_scores_of_other_weights_than_the_callers_are_marked(
    revision: str | None, other: bool
) -> None:
    replica = Replica(begins=False)
    replica.gate.set()
    scores = await replica.score("q", ["a", "b"], revision=revision)
    assert isinstance(scores, OtherRevision) == other
    assert pickle.loads(pickle.dumps(scores)) == [Score(1.0, 1, False)] * 2
    assert type(pickle.loads(pickle.dumps(scores))) is type(scores)
