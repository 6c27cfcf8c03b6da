from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.batching import plan

LENGTHS = st.lists(st.integers(0, 600), max_size=120)


@given(LENGTHS, st.integers(1, 4000))
def test_every_row_is_run_once_within_the_budget(lengths: list[int], budget: int) -> None:
    batches = plan(lengths, budget)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        assert batch
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= budget


@given(LENGTHS, st.integers(1, 4000))
def test_rows_come_longest_first(lengths: list[int], budget: int) -> None:
    order = [lengths[i] for batch in plan(lengths, budget) for i in batch]
    assert order == sorted(lengths, reverse=True)


@given(LENGTHS, st.integers(1, 4000), st.integers(1, 9))
def test_rows_of_a_batch_are_bounded(lengths: list[int], budget: int, rows: int) -> None:
    assert all(len(batch) <= rows for batch in plan(lengths, budget, rows))


@pytest.mark.parametrize(
    ("lengths", "budget", "expected"),
    [
        ([], 10, []),
        ([5], 1, [[0]]),
        ([2, 4, 4, 2], 8, [[1, 2], [0, 3]]),
        ([9, 1, 1], 8, [[0], [1, 2]]),
    ],
)
def test_known_lengths_are_grouped_as_expected(
    lengths: list[int], budget: int, expected: list[list[int]]
) -> None:
    assert plan(lengths, budget) == expected
