"""Rate limit buckets under a manual clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.images import ImageDocument
from models.types import ScoreOptions
from serve_app.access import HEADER_NAMES, estimate
from serve_app.access.limits import Bucket, Budget, Limiter, duration
from serve_app.types import RerankRequest
from tests.serve_app.fakes import Clock


def test_a_bucket_holds_one_minute_and_refills_steadily() -> None:
    bucket = Bucket(60, 0.0)
    for _ in range(60):
        assert bucket.has_one(0.0)
        bucket.take(1, 0.0)
    assert not bucket.has_one(0.0)
    assert (bucket.remaining(0.0), bucket.wait_s(0.0), bucket.reset_s(0.0)) == (0, 1, 60)
    assert not bucket.has_one(0.9)
    assert bucket.has_one(1.0)
    assert bucket.remaining(30.0) == 30
    assert bucket.remaining(1e9) == 60


def test_a_negative_level_must_refill_first() -> None:
    bucket = Bucket(60, 0.0)
    bucket.take(90, 0.0)
    assert bucket.remaining(0.0) == 0
    assert bucket.wait_s(0.0) == 31
    assert not bucket.has_one(30.0)
    assert bucket.has_one(31.0)
    bucket.take(-500, 31.0)
    assert bucket.remaining(31.0) == 60


def test_an_earlier_time_is_ignored() -> None:
    bucket = Bucket(60, 10.0)
    bucket.take(60, 10.0)
    assert bucket.remaining(5.0) == 0


@given(
    per_minute=st.integers(1, 10**12),
    steps=st.lists(st.tuples(st.floats(0, 1e4), st.floats(0, 1e6)), max_size=30),
)
def test_waiting_for_wait_s_is_enough(per_minute: int, steps: list[tuple[float, float]]) -> None:
    bucket, now = Bucket(per_minute, 0.0), 0.0
    for pause, amount in steps:
        now += pause
        bucket.take(amount, now)
        assert bucket.level(now) <= per_minute
        assert bucket.wait_s(now) >= 1
        if not bucket.has_one(now):
            now += bucket.wait_s(now)
            assert bucket.has_one(now)


@given(st.lists(st.floats(0, 30), min_size=1, max_size=200))
def test_the_rate_is_never_exceeded(pauses: list[float]) -> None:
    bucket, now, passed = Bucket(30, 0.0), 0.0, 0
    for pause in pauses:
        now += pause
        if bucket.has_one(now):
            bucket.take(1, now)
            passed += 1
    assert passed <= 30 + now / 2 + 1e-3


def test_headers_show_both_limits_and_the_tighter_one() -> None:
    budget = Budget(Bucket(60, 0.0), Bucket(1000, 0.0))
    budget.requests.take(1, 0.0)  # type: ignore[union-attr]
    budget.tokens.take(750, 0.0)  # type: ignore[union-attr]
    assert budget.headers(0.0) == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "1s",
        "x-ratelimit-limit-tokens": "1000",
        "x-ratelimit-remaining-tokens": "250",
        "x-ratelimit-reset-tokens": "45s",
        "x-ratelimit-limit": "1000",
        "x-ratelimit-remaining": "250",
        "x-ratelimit-reset": "45",
    }
    assert set(budget.headers(0.0)) == set(HEADER_NAMES)
    assert Budget().headers(0.0) == {}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.25, "250ms"),
        (0.0001, "1ms"),
        (1, "1s"),
        (12.2, "13s"),
        (60, "1m0s"),
        (360, "6m0s"),
        (3725, "1h2m5s"),
    ],
)
def test_durations_are_in_openais_format(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_budgets_follow_changed_limits_and_removed_keys() -> None:
    clock = Clock()
    limiter = Limiter(rpm=10, tpm=0, clock=clock)
    first = limiter.budget("a", None, None)
    assert first.requests is not None
    assert first.tokens is None
    first.requests.take(8, clock.now)
    assert limiter.budget("a", 5, 100).requests is first.requests
    assert first.requests.remaining(clock.now) == 2
    assert first.tokens is not None
    assert limiter.budget("a", 0, 0) == Budget()
    limiter.keep_only({"b"})
    assert limiter.budget("a", None, None) is not first


def test_tokens_are_estimated_from_characters() -> None:
    request = RerankRequest("q" * 8, ("d" * 40, "", ImageDocument("data:image/png;base64,AA==")))
    assert estimate(request) >= (40 + 3 * 8) / 4
    cut = RerankRequest("q", ("d" * 4000,), options=ScoreOptions(max_tokens_per_doc=10))
    assert estimate(cut) == 11
