"""What engines share: recovery from out-of-memory errors, and the search for a token budget."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from models.concurrency import at_checkpoints
from models.engines import base
from models.engines.base import MAX_HALVINGS, Engine, Forward, pad
from models.registry import load
from models.types import ModelSpec, ScoringError, TokenRow
from tests.models.decoder_checkpoints import qwen3
from tests.models.t5_checkpoints import t5


class Counting(Engine):
    """Outputs each row's first token; `room` is the size of its memory in tokens."""

    name, device, dtype = "counting", "cpu", "float32"
    pad_token_id, max_rows, typed = 0, None, False

    def __init__(self, room: int = 10**9, budget: int = 1024) -> None:
        self.room, self.token_budget = room, budget
        self.sizes: list[int] = []
        self.error: type[Exception] = torch.OutOfMemoryError
        self.slow_from = 10**9
        self.clock = 0.0

    def _prepare(self, prefix: Sequence[int]) -> Forward:
        return partial(self._run)

    def _run(self, rows: Sequence[TokenRow]) -> list[torch.Tensor]:
        size = pad(rows, 0).ids.size
        self.sizes.append(size)
        if size > self.room:
            raise self.error("CUDA out of memory")
        self.clock += size * (2e-6 if size >= self.slow_from else 1e-6) + 0.001
        return [torch.tensor([float(row.input_ids[0])]) for row in rows]


ROWS = [TokenRow([i] * (1 + i % 40)) for i in range(200)]


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError])
def test_out_of_memory_halves_the_budget_and_loses_no_row(error: type[Exception]) -> None:
    engine = Counting(room=300)
    engine.error = error
    assert [int(output) for output in engine.run(ROWS)] == list(range(200))
    assert engine.token_budget == 256
    engine.sizes.clear()
    engine.run(ROWS)
    assert max(engine.sizes) <= 256


def test_rows_that_fit_in_no_budget_fail_after_a_few_attempts() -> None:
    engine = Counting(room=0)
    with pytest.raises(ScoringError, match="a row of 40 tokens does not fit"):
        engine.run(ROWS)
    assert len(engine.sizes) <= MAX_HALVINGS + 1


def test_a_row_that_does_not_fit_alone_leaves_the_budget_to_the_others() -> None:
    engine = Counting(room=2000)
    for _ in range(3):
        with pytest.raises(ScoringError, match="a row of 5000 tokens does not fit"):
            engine.run([TokenRow([1] * 5000)])
    assert engine.token_budget == 1024
    assert engine.stats.counts()["out_of_memory"] == 3
    with pytest.raises(ScoringError, match="5000 tokens"):
        engine.run([*ROWS, TokenRow([1] * 5000)])
    assert engine.token_budget == 1024


def test_a_reduced_budget_recovers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "RECOVERY_BATCHES", 50)
    engine = Counting(room=300)
    engine.run(ROWS)
    assert engine.token_budget == 256
    engine.room = 10**9
    for _ in range(30):
        engine.run(ROWS)
    assert engine.token_budget == 1024
    # If it fails again, the recovery takes longer.
    engine.room = 300
    engine.sizes.clear()
    for _ in range(50):
        engine.run(ROWS)
    failures = sum(size > 300 for size in engine.sizes)
    assert failures < 8


def test_threads_take_turns_by_micro_batch() -> None:
    engine = Counting(budget=40)
    order: list[str] = []
    both = threading.Barrier(2)

    def run(name: str, patient: bool, first: bool) -> None:
        rows = [TokenRow([1] * 40)] * 6
        with at_checkpoints(lambda: order.append(name), patient=patient):
            both.wait()
            time.sleep(0 if first else 0.05)
            engine.run(rows)

    run_rows = engine._run

    def slow(rows: Sequence[TokenRow]) -> list[torch.Tensor]:
        time.sleep(0.02)
        return run_rows(rows)

    engine._run = slow  # type: ignore[method-assign]
    threads = [
        threading.Thread(target=run, args=("large", True, True)),
        threading.Thread(target=run, args=("small", False, False)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    start = order.index("small")
    assert start <= 5
    assert order[start : start + 5].count("small") >= 2


def test_a_run_ends_between_micro_batches() -> None:
    engine = Counting(budget=40)

    def cancel() -> None:
        if len(engine.sizes) == 3:
            raise TimeoutError

    with at_checkpoints(cancel), pytest.raises(TimeoutError):
        engine.run(ROWS)
    assert len(engine.sizes) == 3
    assert len(engine.run(ROWS)) == 200


def test_other_errors_are_not_retried() -> None:
    engine = Counting()

    def fail(rows: Sequence[TokenRow]) -> list[torch.Tensor]:
        engine.sizes.append(0)
        raise RuntimeError("a shape is wrong")

    engine._run = fail  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="a shape is wrong"):
        engine.run(ROWS)
    assert engine.sizes == [0]


def _timed(engine: Counting, monkeypatch: pytest.MonkeyPatch) -> Counting:
    """The engine, with a clock that advances with its work."""
    monkeypatch.setattr(base, "time", SimpleNamespace(monotonic=lambda: engine.clock))
    return engine


def test_the_budget_found_is_the_fastest(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = _timed(Counting(), monkeypatch)
    engine.slow_from = 1100
    engine.find_budget(longest=512)
    assert engine.token_budget == 1024
    engine = _timed(Counting(room=600), monkeypatch)
    engine.find_budget(longest=512)
    assert engine.token_budget == 512


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        # All equally fast: the largest short one.
        ({512: (100, 0.01), 1024: (99, 0.02), 2048: (101, 0.04)}, 2048),
        ({512: (100, 0.05), 1024: (102, 0.1), 2048: (101, 0.2)}, 1024),
        # None is short: the smallest of the fastest.
        ({512: (100, 1.0), 1024: (103, 2.0)}, 512),
        # A longer one, if it is faster per token.
        ({512: (50, 0.1), 1024: (100, 0.2)}, 1024),
    ],
)
def test_among_equally_fast_budgets_the_largest_short_one_is_chosen(
    found: dict[int, tuple[float, float]], expected: int
) -> None:
    assert base._best(found) == expected


def test_the_search_respects_its_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = _timed(Counting(budget=2048), monkeypatch)
    engine.find_budget(longest=512, limit_s=0.0)
    assert engine.token_budget == 512
    assert len(engine.sizes) == 2


@pytest.mark.parametrize("make", [qwen3, t5, None])
def test_every_family_finds_a_budget(tmp_path: Path, make: object) -> None:
    source = "embedded" if make is None else str(make(tmp_path))  # type: ignore[operator]
    scorer = load(ModelSpec("m", source=source, dtype="float32"))
    before = [score.logit for score in scorer.score("q", ["a", "b"])]
    scorer.find_budget()
    assert scorer.info.token_budget in (512, 1024, 2048, 4096)
    after = [score.logit for score in scorer.score("q", ["a", "b"])]
    assert after == pytest.approx(before, abs=1e-4)
