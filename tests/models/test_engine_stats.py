"""What engines count: rows, padding and out-of-memory errors."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from models.engine_stats import Distribution, EngineStats
from models.engines.base import Engine, Forward
from models.types import TokenRow


class Rows(Engine):
    """Outputs each row's length; its memory holds `fits` rows."""

    name = "rows"
    device = "cpu"
    token_budget = 64
    pad_token_id = 0
    max_rows = None
    typed = False
    fits = 100

    def _prepare(self, prefix: Sequence[int]) -> Forward:
        def forward(rows: Sequence[TokenRow]) -> list[torch.Tensor]:
            if len(rows) > self.fits:
                raise RuntimeError("out of memory")
            return [torch.tensor([len(row)]) for row in rows]

        return forward


def rows(*lengths: int) -> list[TokenRow]:
    return [TokenRow([1] * n) for n in lengths]


def test_rows_tokens_and_padding_of_each_micro_batch_are_counted() -> None:
    engine = Rows()
    engine.run(rows(32, 30, 8))
    assert engine.stats.counts() == {
        "rows": 3,
        "tokens": 70,
        "padding_tokens": 2,
        "out_of_memory": 0,
    }
    found = engine.stats.distributions()
    assert found["batch_rows"].total == 2
    assert (found["batch_rows"].sum, found["batch_tokens"].sum) == (3, 70)
    assert found["forward_seconds"].total == 2


def test_packed_rows_have_no_padding_unless_some_are_masked() -> None:
    engine = Rows()
    engine.packs = True
    engine.run(rows(32, 8))
    assert engine.stats.counts()["padding_tokens"] == 0
    engine.run([TokenRow([1] * 8, attended=4), *rows(6)])
    assert engine.stats.counts()["padding_tokens"] == 2


def test_out_of_memory_errors_are_counted_and_no_row_twice() -> None:
    engine = Rows()
    engine.fits = 1
    engine.run(rows(16, 16, 16, 16))
    counts = engine.stats.counts()
    assert (counts["rows"], counts["out_of_memory"]) == (4, 2)


def test_clear_forgets_the_warm_up() -> None:
    engine = Rows()
    engine.run(rows(4))
    engine.stats.clear()
    assert set(engine.stats.counts().values()) == {0}
    assert engine.stats.distributions()["batch_rows"].total == 0


def test_distributions_merge_only_with_equal_bounds() -> None:
    one, other = Distribution((1, 2)), Distribution((1, 2))
    for value in (0.5, 1, 1.5):
        one.add(value)
    other.add(9)
    copy = one.copy()
    one.merge(other)
    assert (one.counts, one.sum, one.total) == ([2, 1, 1], 12, 4)
    assert copy.total == 3
    with pytest.raises(ValueError, match="bounds"):
        one.merge(Distribution((1, 3)))


def test_a_copy_does_not_change_with_the_original() -> None:
    stats = EngineStats()
    before = stats.distributions()
    stats.add(rows=1, tokens=2, padding=0, seconds=0.1)
    assert before["batch_rows"].total == 0
