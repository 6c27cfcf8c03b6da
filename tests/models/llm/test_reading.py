"""Judgements read from text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.llm import reading


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"score": 7}', 7),
        ('Here: {"score": 7.5, "reason": "3 of 4"}', 7.5),
        ('{"score": "8"}', 8),
        ("7", 7),
        ("Score: 7/10.", 7),
        ("I give it 10 out of 10", 10),
        ("**3**", 3),
        ("Between 3 and 7", None),
        ("-1", None),
        ("11", None),
        ("none", None),
        ("", None),
        ('{"score": null}', None),
        ('{"score": NaN}', None),
        ('{"mark": 3}', None),
        ("gpt4", None),
    ],
)
def test_ratings_are_read(text: str, value: float | None) -> None:
    assert reading.rating(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Yes", 1),
        (" **no**, not at all: yes is wrong", 0),
        ('{"answer": "no"}', 0),
        ('{"answer": true}', 1),
        ("nothing", None),
        ("It says yes", None),
        ('{"answer": 3}', None),
    ],
)
def test_yes_and_no_are_read(text: str, value: float | None) -> None:
    assert reading.yes_or_no(text) == value


def test_the_probability_is_read_at_the_first_yes_or_no() -> None:
    positions = [{"so": 0.9, "no": 0.1}, {"yes": 0.75, "no": 0.25}]
    assert reading.probability_of_yes(positions) == 0.75
    assert reading.probability_of_yes([{"so": 0.9}]) is None
    assert reading.probability_of_yes([]) is None


@given(st.lists(st.integers(-3, 30), max_size=40), st.integers(1, 20))
def test_a_repaired_ranking_is_complete_and_keeps_the_given_order(
    named: list[int], count: int
) -> None:
    order, repaired = reading.repair(named, count)
    assert sorted(order) == list(range(count))
    valid = list(dict.fromkeys(n - 1 for n in named if 1 <= n <= count))
    assert order[: len(valid)] == valid
    assert order[len(valid) :] == sorted(order[len(valid) :])
    assert repaired["missing"] == count - len(valid)
    assert repaired["unknown"] == sum(not 1 <= n <= count for n in named)
    assert sum(repaired.values()) == count - len(valid) + len(named) - len(valid)


@given(st.text())
def test_reading_never_raises(text: str) -> None:
    assert reading.rating(text) is None or 0 <= (reading.rating(text) or 0) <= 10
    assert reading.yes_or_no(text) in (None, 0.0, 1.0)
    assert all(isinstance(n, int) for n in reading.numbers(text))
    assert isinstance(reading.reason(text), str)
