"""The circuit breaker opens after consecutive failures; its pauses double."""

from __future__ import annotations

from serve_app.service.cache.breaker import FAILURES, FIRST_PAUSE_S, LONGEST_PAUSE_S, Breaker
from tests.serve_app.fakes import Clock


def opened(clock: Clock) -> Breaker:
    breaker = Breaker(clock)
    assert [breaker.failed() for _ in range(FAILURES)] == [False, False, True]
    return breaker


def test_a_success_resets_the_failure_count() -> None:
    breaker = Breaker(Clock())
    for _ in range(5):
        breaker.failed()
        breaker.failed()
        breaker.succeeded()
    assert not breaker.open


def test_one_caller_may_retry_after_each_pause_and_pauses_double() -> None:
    clock = Clock()
    breaker = opened(clock)
    pause_s, pauses = FIRST_PAUSE_S, []
    for _ in range(8):
        assert not breaker.due()
        clock.now += pause_s
        assert breaker.due()
        assert not breaker.due()
        breaker.postpone()
        pauses.append(pause_s)
        pause_s = min(LONGEST_PAUSE_S, 2 * pause_s)
        assert breaker.pause_s == pause_s
    assert pauses[-1] == LONGEST_PAUSE_S


def test_a_single_failure_after_closing_reopens_it_for_longer() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += FIRST_PAUSE_S
    breaker.close()
    assert not breaker.open
    assert breaker.failed()
    clock.now += FIRST_PAUSE_S
    assert not breaker.due()
    clock.now += FIRST_PAUSE_S
    assert breaker.due()
