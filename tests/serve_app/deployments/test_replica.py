"""The model replica in this process: lanes, hangs, and the batch options."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ray import serve

from models.concurrency import Turn, checkpoint
from models.engine_stats import EngineStats
from models.types import (
    DEFAULTS,
    Document,
    Encoded,
    ModelInfo,
    ModelSpec,
    Score,
    ScoreOptions,
    ScoringError,
    TokenRow,
)
from models.vectors import Vectors
from serve_app.deployments import replica as module
from serve_app.deployments import watchdog
from serve_app.deployments.replica import BatchOptions, ModelReplica
from serve_app.errors import ScoringFailed
from serve_app.service.retries import MergedCallsFailed
from tests.serve_app.fakes import INFO

BUDGET = 64


class Scorer:
    """Runs one row per micro-batch; a document's length is its number of rows."""

    def __init__(self) -> None:
        self.info = ModelInfo(**{**_fields(INFO), "token_budget": BUDGET, "device": "cpu"})
        self.engine_stats = EngineStats()
        self.turn = Turn()
        self.ran: list[str] = []
        self.batches: list[int] = []
        self.gate = threading.Event()
        self.gate.set()
        self.started = threading.Event()

    def encode(
        self, query: str, documents: Sequence[Document], options: ScoreOptions = DEFAULTS
    ) -> Encoded:
        rows = [TokenRow((1,) * 16) for document in documents for _ in str(document)]
        tokens = [16] * len(documents)
        return Encoded(rows, tokens, [False] * len(documents), {"query": query})

    def forward(self, batch: Sequence[Encoded]) -> list[list[Score]]:
        self.batches.append(len(batch))
        for encoded in batch:
            query = encoded.extra["query"]
            for _ in encoded.rows:
                with self.turn:
                    checkpoint()
                    self.ran.append(query)
                    self.started.set()
                    if query.startswith("slow"):
                        self.gate.wait(60)
        for encoded in batch:
            if encoded.extra["query"] == "nan":
                raise ScoringError("a score is not finite")
        return [[Score(1.0, n) for n in encoded.tokens] for encoded in batch]

    def encode_documents(
        self, documents: Sequence[Document], options: ScoreOptions = DEFAULTS
    ) -> Encoded:
        return self.encode("slow embedding", documents)

    def embed(self, encoded: Encoded) -> Vectors:
        self.forward([encoded])
        return np.zeros((1, 2), dtype=np.float32)

    def representation_stats(self) -> dict[str, int]:
        return {}


def _fields(info: ModelInfo) -> dict[str, Any]:
    return {name: getattr(info, name) for name in ModelInfo.__dataclass_fields__}


@asynccontextmanager
async def started(
    scorer: Scorer, *, window_ms: float = 0.0, hang_s: float = 3600.0
) -> AsyncIterator[ModelReplica]:
    class Replica(ModelReplica):
        load = staticmethod(lambda *args: scorer)  # type: ignore[assignment]
        # Ray keeps a queue per decorated function, which belongs to the first test's event loop.
        _forward = serve.batch(batch_size_fn=module._cost)(ModelReplica._forward.__wrapped__)

    replica = Replica.__new__(Replica)
    await replica.__init__(  # type: ignore[misc]
        ModelSpec("m"), micro_batch=True, window_ms=window_ms, warmup=False, hang_s=hang_s
    )
    try:
        yield replica
    finally:
        scorer.gate.set()
        replica._watcher.cancel()
        # Otherwise Ray would create an event loop when it deletes the queue.
        queue = Replica._forward._get_curr_iteration_start_times.__self__.queue
        queue._handle_batch_task.cancel()
        queue._handle_batch_task = None
        for threads in (
            *(replica._encoders, replica._long_encoders),
            *(replica._forwards, replica._large_forwards),
        ):
            threads.shutdown()


@pytest.fixture(autouse=True)
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    config = SimpleNamespace(max_ongoing_requests=10**9)
    context = SimpleNamespace(_deployment_config=config)
    monkeypatch.setattr(serve, "get_replica_context", lambda: context)


async def _until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_a_small_call_takes_turns_with_a_large_one() -> None:
    scorer = Scorer()
    async with started(scorer) as replica:
        scorer.gate.clear()
        large = asyncio.create_task(replica.score("slow large", ["d" * 200]))
        await _until(scorer.started.is_set)
        small = asyncio.create_task(replica.score("small", ["dd"]))
        await _until(lambda: len(scorer.turn._waiting[False]) == 1)
        scorer.gate.set()
        assert len(await small) == 1
        assert len(await large) == 1
    place = scorer.ran.index("small")
    assert scorer.ran[place : place + 3].count("small") == 2
    assert place < 150


async def test_a_cancelled_large_call_ends_between_micro_batches() -> None:
    scorer = Scorer()
    async with started(scorer) as replica:
        scorer.gate.clear()
        large = asyncio.create_task(replica.score("slow large", ["d" * 200]))
        await _until(scorer.started.is_set)
        large.cancel()
        with pytest.raises(asyncio.CancelledError):
            await large
        scorer.gate.set()
        assert len(await replica.score("small", ["d"])) == 1
    assert scorer.ran.count("slow large") < 3


async def test_scores_do_not_wait_for_embeddings() -> None:
    scorer = Scorer()
    async with started(scorer) as replica:
        scorer.gate.clear()
        embedding = asyncio.create_task(replica.embed(["d" * 20]))
        await _until(scorer.started.is_set)
        small = asyncio.create_task(replica.score("small", ["d"]))
        await _until(lambda: len(scorer.turn._waiting[False]) == 1)
        scorer.gate.set()
        await small
        assert scorer.ran.index("small") < 5
        assert (await embedding).shape == (1, 2)


async def test_only_the_call_to_blame_fails_of_a_merged_batch() -> None:
    scorer = Scorer()
    async with started(scorer, window_ms=300) as replica:
        calls = [replica.score(query, ["d"]) for query in ("a", "nan", "b")]
        found = await asyncio.gather(*calls, return_exceptions=True)
    assert scorer.batches == [3, 1, 1, 1]
    assert isinstance(found[1], ScoringError)
    assert [len(one) for one in (found[0], found[2]) if isinstance(one, list)] == [1, 1]


@pytest.fixture
def exits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Statuses that the process would have exited with."""
    statuses: list[int] = []
    monkeypatch.setattr(module.os, "_exit", statuses.append)
    monkeypatch.setattr(module, "GRACE_S", 0.01)
    monkeypatch.setattr(watchdog, "GRACE_S", 600.0)
    return statuses


@pytest.mark.parametrize(
    ("queries", "error"),
    [(["slow"], ScoringFailed), (["slow", "small"], MergedCallsFailed)],
)
async def test_a_hanging_call_fails_before_the_replica_exits(
    exits: list[int], queries: list[str], error: type[Exception]
) -> None:
    scorer = Scorer()
    async with started(scorer, window_ms=300, hang_s=0.3) as replica:
        scorer.gate.clear()
        found = await asyncio.gather(
            *(replica.score(query, ["d"]) for query in queries), return_exceptions=True
        )
        assert [type(one) for one in found] == [error] * len(queries)
        await _until(lambda: exits)
    assert exits == [1]


async def test_calls_that_only_wait_do_not_fail_with_a_hanging_one(exits: list[int]) -> None:
    scorer = Scorer()
    async with started(scorer, hang_s=0.3) as replica:
        scorer.gate.clear()
        large = asyncio.create_task(replica.score("slow large", ["d" * 200]))
        await _until(scorer.started.is_set)
        small = asyncio.create_task(replica.score("small", ["d"]))
        with pytest.raises(ScoringFailed, match="send fewer or shorter documents"):
            await large
        await _until(lambda: exits)
        assert not small.done()
        scorer.gate.set()
        await small


async def test_a_call_alone_is_not_merged() -> None:
    scorer = Scorer()
    async with started(scorer, window_ms=300) as replica:
        await asyncio.gather(
            replica.score("a", ["d"]),
            replica.score("b", ["d"], alone=True),
            replica.score("c", "d"),
        )
    assert sorted(scorer.batches) == [1, 2]


def test_batch_options() -> None:
    assert BatchOptions.of({}) == BatchOptions()
    assert BatchOptions.of({"window_ms": 5}).window_ms == 5
    for wrong in ({"window_ms": -1}, {"batch_tokens": 0}, {"windw_ms": 5}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            BatchOptions.of(wrong)
