"""The circuit breaker, the token budget, AWS signatures and Retry-After."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from models.remote.bounds import CircuitBreaker, TokenBudget
from models.remote.errors import RemoteRateLimited, RemoteUnavailable
from models.remote.problems import retry_after
from models.remote.sigv4 import Credentials, sign
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


def test_the_signature_matches_the_published_example() -> None:
    """From "Signature Version 4 signing process", AWS General Reference: IAM's ListUsers."""
    headers = sign(
        Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
        method="GET",
        url="https://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08",
        region="us-east-1",
        service="iam",
        headers={"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"},
        now=datetime(2015, 8, 30, 12, 36, tzinfo=UTC),
    )
    assert headers["authorization"] == (
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, "
        "SignedHeaders=content-type;host;x-amz-date, "
        "Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
    )
    assert "wJalr" not in repr(Credentials("AKIDEXAMPLE", "wJalr"))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
    ],
)
def test_retry_after_as_a_number(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


def test_retry_after_as_a_date() -> None:
    then = datetime.now(UTC) + timedelta(seconds=90)
    assert 85 < (retry_after({"retry-after": format_datetime(then, usegmt=True)}) or 0) <= 90
