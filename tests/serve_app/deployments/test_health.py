"""Models are asked whether they respond: afresh, all at once, and without waking any."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping

import pytest

from models.types import ModelInfo
from serve_app.deployments import health
from serve_app.deployments.health import FRESH_S, Deployed, ModelHealth, status_of
from serve_app.errors import MetricsUnavailable
from serve_app.telemetry import Snapshot
from tests.serve_app.fakes import INFO, Clock, FakeFrontend
from tests.waiting import settle


class Model:
    """A model that answers unless it fails, and counts how often it was asked."""

    def __init__(self, failure: Exception | None = None, gate: asyncio.Event | None = None) -> None:
        self.failure = failure
        self.gate = gate
        self.asked = 0

    async def ask(self) -> ModelInfo:
        self.asked += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        return INFO


async def test_a_model_that_stops_responding_is_noticed() -> None:
    clock, model = Clock(), Model()
    checks = ModelHealth({"m": model}, clock=clock)
    assert await checks.problems() == {}
    model.failure = ConnectionError("it died")
    assert await checks.problems() == {}  # still fresh
    clock.now += FRESH_S + 0.1
    assert "not responding (ConnectionError)" in (await checks.problems())["m"]
    model.failure = None
    clock.now += FRESH_S + 0.1
    assert await checks.problems() == {}
    assert model.asked == 3


async def test_models_are_asked_at_the_same_time_and_once_for_all_probes() -> None:
    gate = asyncio.Event()
    models = {f"m{i}": Model(gate=gate) for i in range(20)}
    checks = ModelHealth(models)
    probes = [asyncio.create_task(checks.problems()) for _ in range(5)]
    await settle()
    assert [model.asked for model in models.values()] == [1] * 20
    probes[0].cancel()  # does not affect the others
    gate.set()
    assert await asyncio.gather(*probes[1:]) == [{}] * 4


async def test_models_that_hang_time_out_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "ASK_TIMEOUT_S", 0.05)
    hanging = asyncio.Event()
    models = {f"m{i}": Model(gate=hanging) for i in range(400)} | {"good": Model()}
    # In turn they would take 20 s.
    async with asyncio.timeout(10):
        problems = await ModelHealth(models).problems()
    assert len(problems) == 400
    assert "TimeoutError" in problems["m0"]


@pytest.mark.parametrize(
    ("reporting", "deployed", "asked", "fails"),
    [
        (Counter({"m": 1}), Deployed(1, failing=False), 0, False),  # running
        (Counter(), Deployed(0, failing=False), 0, False),  # at zero
        (None, Deployed(0, failing=False), 0, False),  # at zero while the hub restarts
        (Counter(), Deployed(0, failing=True), 0, True),  # cannot start
        (Counter(), Deployed(1, failing=False), 1, True),  # running, but silent
    ],
)
async def test_a_model_that_scales_to_zero_is_asked_only_if_it_runs_and_does_not_report(
    reporting: Counter[str] | None, deployed: Deployed, asked: int, fails: bool
) -> None:
    async def states() -> Mapping[str, Deployed]:
        return {"m": deployed}

    model = Model(ConnectionError("it hangs"))
    checks = ModelHealth(
        {"m": model}, scales_to_zero=["m"], reporting=lambda: reporting, deployed=states
    )
    assert bool(await checks.problems()) == fails
    assert model.asked == asked


async def test_a_controller_that_does_not_answer_is_a_problem_of_a_model_at_zero() -> None:
    async def states() -> Mapping[str, Deployed]:
        raise ConnectionError("no controller")

    checks = ModelHealth({"m": Model()}, scales_to_zero=["m"], deployed=states)
    assert "m" in await checks.problems()


@pytest.mark.parametrize(
    ("problems", "loaded", "status"),
    [
        ([], ["a", "b"], "ok"),
        ([], [], "ok"),
        (["a"], ["a", "b"], "degraded"),
        (["a"], ["b"], "unavailable"),  # a is still starting
        (["a", "b"], ["a", "b"], "unavailable"),
    ],
)
def test_the_status(problems: list[str], loaded: list[str], status: str) -> None:
    assert status_of(["a", "b"], problems, loaded) == status


@pytest.mark.parametrize(
    ("status", "code"), [("ok", 200), ("degraded", 200), ("unavailable", 503), ("stopping", 503)]
)
async def test_probes_fail_only_if_no_model_responds(status: str, code: int) -> None:
    front = FakeFrontend()
    report = await front.health()

    async def answer() -> dict[str, object]:
        return {**report, "status": status}

    front.health = answer  # type: ignore[method-assign]
    async with front.client() as client:
        for path in ("/health", "/ready"):
            response = await client.get(path)
            assert response.status_code == code, path
        assert (await client.get("/health")).json()["status"] == status


@pytest.mark.parametrize("path", ["/metrics", "/v1/usage"])
async def test_metrics_without_the_hub_are_unavailable(path: str) -> None:
    front = FakeFrontend()

    async def snapshot() -> Snapshot:
        raise MetricsUnavailable("the metrics hub is not responding")

    front.snapshot = snapshot  # type: ignore[method-assign]
    async with front.client() as client:
        response = await client.get(path)
    assert response.status_code == 503
    assert response.headers["retry-after"] == "5"
    assert "hub is not responding" in response.text
