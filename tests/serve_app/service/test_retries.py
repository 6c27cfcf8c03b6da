"""Calls to replicas: retries, the time limit, and the errors that are not retried."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from models.images import ImageError
from models.types import DEFAULTS, Score, ScoringError
from serve_app.errors import (
    DeadlineExceeded,
    InvalidRequest,
    ModelUnavailable,
    RerankError,
    ScoringFailed,
    UpstreamRateLimited,
)
from serve_app.service import retries
from serve_app.service.deadline import Deadline
from serve_app.service.retries import MergedCallsFailed, RetryingModel
from serve_app.telemetry import Telemetry, to_json
from tests.serve_app.fakes import WordOverlap, ask, make_service


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "PAUSE_S", 0.001)


def retrying(
    replicas: WordOverlap, *, max_retries: int = 2, timeout_s: float = 5.0
) -> RetryingModel:
    return RetryingModel(
        "words", replicas, Telemetry(), max_retries=max_retries, timeout_s=timeout_s
    )


async def scores(model: RetryingModel, until: Deadline | None = None) -> list[Score]:
    return await model.score("a b", ["a", "x"], DEFAULTS, until or Deadline())


async def test_a_failed_call_is_retried_and_counted() -> None:
    replicas, telemetry = WordOverlap(), Telemetry()
    replicas.failures = [ConnectionError("gone"), OSError("gone again")]
    model = RetryingModel("words", replicas, telemetry, max_retries=2, timeout_s=5)
    assert [score.logit for score in await scores(model)] == [1, 0]
    assert len(replicas.timeouts) == 3
    assert to_json(telemetry.snapshot())["upstream_by_model"] == {"words": {"retries": 2}}


async def test_the_model_is_unavailable_after_max_retries() -> None:
    replicas = WordOverlap()
    replicas.failures = [ConnectionError("gone")] * 4
    with pytest.raises(ModelUnavailable, match="'words' is not responding"):
        await scores(retrying(replicas))
    assert len(replicas.timeouts) == 3


async def test_the_time_limit_covers_all_attempts() -> None:
    replicas = WordOverlap()

    async def slow(*args: object) -> list[Score]:
        await asyncio.sleep(0.04)
        raise ConnectionError("gone")

    replicas.score = slow  # type: ignore[method-assign, assignment]
    async with asyncio.timeout(10):
        with pytest.raises(DeadlineExceeded, match=r"took longer than 0\.1 s"):
            await scores(retrying(replicas, max_retries=1000, timeout_s=0.1))


async def test_a_replica_gets_the_smaller_of_timeout_and_deadline() -> None:
    replicas = WordOverlap()
    model = retrying(replicas, timeout_s=5)
    await scores(model)
    await scores(model, Deadline.after(2))
    assert 4 < replicas.timeouts[0] <= 5
    assert 1 < replicas.timeouts[1] <= 2


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (UpstreamRateLimited("slow down"), UpstreamRateLimited),
        (InvalidRequest("no"), InvalidRequest),
        (ImageError("not an image"), InvalidRequest),
        (ScoringError("NaN"), ScoringFailed),
    ],
)
async def test_errors_that_a_retry_would_not_fix_are_raised_at_once(
    failure: Exception, kind: type[RerankError]
) -> None:
    replicas = WordOverlap()
    replicas.failures = [failure]
    with pytest.raises(kind, match=str(failure)):
        await scores(retrying(replicas))
    assert len(replicas.timeouts) == 1


@pytest.mark.parametrize("change", [lambda found: found[1:], lambda found: found * 2])
async def test_a_wrong_number_of_scores_is_an_error(
    change: Callable[[list[Score]], list[Score]],
) -> None:
    replicas = WordOverlap()
    score = replicas.score

    async def wrong(*args: object) -> list[Score]:
        return change(await score(*args))  # type: ignore[arg-type]

    replicas.score = wrong  # type: ignore[method-assign, assignment]
    with pytest.raises(ScoringFailed, match=r"returned \d scores for 2 documents"):
        await scores(retrying(replicas))


async def test_requests_fail_only_after_their_retries() -> None:
    backend = WordOverlap()
    service = make_service(backend)
    backend.failures = [ConnectionError("gone")]
    assert (await service.rerank(ask("a"))).results
    backend.failures = [ConnectionError("gone")] * 2
    with pytest.raises(ModelUnavailable):
        await service.rerank(ask("b"))
    backend.failures = [ScoringError("words gave NaN")]
    with pytest.raises(ScoringFailed, match="words gave NaN"):
        await service.rerank(ask("c"))
    assert (await service.rerank(ask("c"))).results


async def test_a_hanging_call_is_cancelled_at_the_worker_timeout() -> None:
    backend = WordOverlap()
    backend.gate.clear()
    with pytest.raises(DeadlineExceeded):
        await make_service(backend, worker_timeout_s=0.05).rerank(ask("a"))
    assert backend.cancelled == 1


async def test_a_call_cancelled_by_the_replica_is_retried() -> None:
    backend = WordOverlap()
    service = make_service(backend)
    backend.failures = [asyncio.CancelledError()]  # type: ignore[list-item]
    assert (await service.rerank(ask("a", "b", "a b", query="a b"))).results[0].index == 2


async def test_there_is_no_pause_after_the_last_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "PAUSE_S", 60)
    backend = WordOverlap()
    backend.failures = [ConnectionError("gone")]
    async with asyncio.timeout(10):
        with pytest.raises(ModelUnavailable):
            await make_service(backend, max_retries=0).rerank(ask("a", "b", "a b", query="a b"))


async def test_a_call_of_a_failed_batch_is_retried_alone() -> None:
    replicas = WordOverlap()
    replicas.failures = [MergedCallsFailed(), ConnectionError("gone")]
    assert [score.logit for score in await scores(retrying(replicas))] == [1, 0]
    assert replicas.alone == [False, True, True]
