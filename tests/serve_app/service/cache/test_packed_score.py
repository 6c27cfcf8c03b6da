"""The shared store's value format."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.types import Score
from serve_app.service.cache.packed_score import SIZE, pack, unpack

KEY = bytes(range(16))
_UINT32 = st.integers(0, 2**32 - 1)
_SCORES = st.builds(
    Score, st.floats(allow_nan=False, allow_infinity=False), _UINT32, st.booleans(), _UINT32
)


@given(st.binary(min_size=16, max_size=16), _SCORES)
def test_unpack_returns_the_packed_score(key: bytes, score: Score) -> None:
    value = pack(key, score)
    assert value is not None
    assert len(value) == SIZE
    assert unpack(key, value) == score


@given(_SCORES, st.integers(0, SIZE - 1), st.integers(1, 255))
def test_a_damaged_value_is_rejected(score: Score, place: int, change: int) -> None:
    value = pack(KEY, score)
    assert value is not None
    damaged = bytearray(value)
    damaged[place] ^= change
    assert unpack(KEY, bytes(damaged)) is None


@pytest.mark.parametrize("value", [None, 1, "text", b"", b"x" * SIZE])
def test_other_values_are_rejected(value: object) -> None:
    assert unpack(KEY, value) is None


def test_another_keys_value_is_rejected() -> None:
    assert unpack(KEY[::-1], pack(KEY, Score(1.0, 1))) is None


@pytest.mark.parametrize("logit", [float("nan"), float("inf"), float("-inf")])
def test_a_logit_that_is_not_finite_is_rejected(logit: float) -> None:
    assert unpack(KEY, pack(KEY, Score(logit, 1))) is None


def test_a_field_out_of_range_is_not_packed() -> None:
    assert pack(KEY, Score(1.0, 2**32)) is None
