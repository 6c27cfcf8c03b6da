"""The circuit breaker and the token budget."""

from __future__ import annotations

import pytest

from models.remote.bounds import CircuitBreaker, TokenBudget
from models.remote.errors import RemoteRateLimited, RemoteUnavailable
from tests.serve_app.fakes import Clock


def test_the_breaker_opens_admits_one_probe_and_closes() -> None:
    clock = Clock()
    breaker = CircuitBreaker("It", failures=2, cool_down_s=10, clock=clock)
    breaker.failed()
    breaker.succeeded()
    assert [breaker.failed(), breaker.failed()] == [False, True]
    with pytest.raises(
        RemoteUnavailable, match="failed 2 times in a row; calls are paused for 10 s"
    ):
        breaker.admit()
    clock.now += 11
    breaker.admit()
    with pytest.raises(RemoteUnavailable):
        breaker.admit()
    breaker.failed()
    assert breaker.is_open
    with pytest.raises(RemoteUnavailable):
        breaker.admit()
    clock.now += 11
    breaker.admit()
    breaker.cancelled()
    breaker.admit()
    breaker.succeeded()
    assert not breaker.is_open
    breaker.admit()


def test_the_budget_is_reset_after_an_hour() -> None:
    clock = Clock()
    budget = TokenBudget("It", 10, clock)
    budget.spend(10)
    clock.now += 3000
    with pytest.raises(RemoteRateLimited) as caught:
        budget.check()
    assert caught.value.retry_after_s == 600
    clock.now += 600
    budget.check()
    TokenBudget("It", None, clock).check()
