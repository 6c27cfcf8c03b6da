"""Judgements out of text."""

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
def test_scores(text: str, value: float | None) -> None:
    assert reading.score(text) == value


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
def test_yes_and_no(text: str, value: float | None) -> None:
    assert reading.yes(text) == value


def test_chances_are_read_where_the_answer_stands() -> None:
    places = [{"so": 0.9, "no": 0.1}, {"yes": 0.75, "no": 0.25}]
    assert reading.chance_of_yes(places) == 0.75
    assert reading.chance_of_yes([{"so": 0.9}]) is None
    assert reading.chance_of_yes([]) is None


@given(st.lists(st.integers(-3, 30), max_size=40), st.integers(1, 20))
def test_a_repaired_ranking_is_whole_and_keeps_what_was_said(named: list[int], count: int) -> None:
    order, repaired = reading.repair(named, count)
    assert sorted(order) == list(range(count))
    said = list(dict.fromkeys(n - 1 for n in named if 1 <= n <= count))
    assert order[: len(said)] == said
    assert order[len(said) :] == sorted(order[len(said) :])
    assert repaired["missing"] == count - len(said)
    assert repaired["unknown"] == sum(not 1 <= n <= count for n in named)
    assert sum(repaired.values()) == count - len(said) + len(named) - len(said)


@given(st.text())
def test_any_text_is_read_or_not_but_never_fails(text: str) -> None:
    assert reading.score(text) is None or 0 <= (reading.score(text) or 0) <= 10
    assert reading.yes(text) in (None, 0.0, 1.0)
    assert all(isinstance(n, int) for n in reading.numbers(text))
    assert isinstance(reading.reason(text), str)
