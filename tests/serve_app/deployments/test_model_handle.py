"""A model's info is recalled from the hub before a replica is asked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from unittest.mock import AsyncMock, Mock

from models.types import ModelInfo, ModelSpec, ScoreOptions
from serve_app.deployments.metrics_hub import LoadedModel, MetricsHub, Report, key_of
from serve_app.deployments.model_handle import ReplicasHandle
from serve_app.telemetry import Snapshot
from tests.serve_app.fakes import INFO

KEY = key_of(ModelSpec(name="words"))


class Handle:
    """A deployment handle whose replica counts its calls."""

    def __init__(self) -> None:
        self.asked = 0
        self.info = self

    def remote(self) -> Any:
        async def answer() -> ModelInfo:
            self.asked += 1
            return INFO

        return answer()


async def test_a_model_known_to_the_hub_is_not_asked() -> None:
    hub, handle = MetricsHub(), Handle()
    await hub.report(Report("replica", Snapshot(), {KEY: LoadedModel(INFO, 5.0)}))
    assert await ReplicasHandle(handle, lambda: hub.recall(KEY)).info() == INFO
    assert handle.asked == 0


async def test_an_unknown_model_is_asked_once_and_reported_to_a_new_hub() -> None:
    hub, handle = MetricsHub(), Handle()
    backend = ReplicasHandle(handle, lambda: hub.recall(KEY))
    assert backend.known is None
    assert await backend.info() == await backend.info() == INFO
    assert handle.asked == 1
    assert backend.known is not None
    restarted = MetricsHub()
    await restarted.report(Report("ingress", Snapshot(), {KEY: backend.known}))
    assert await restarted.recall(KEY) == LoadedModel(INFO)


async def test_a_failing_hub_does_not_prevent_an_answer() -> None:
    async def broken() -> LoadedModel | None:
        raise RuntimeError("the hub is gone")

    assert await ReplicasHandle(Handle(), broken).info() == INFO


def test_a_model_with_other_settings_has_another_key() -> None:
    assert key_of(replace(ModelSpec(name="words"), max_length=64)) != KEY


async def test_the_info_of_a_replica_loaded_later_replaces_the_known_one() -> None:
    hub = MetricsHub()
    old, new = LoadedModel(INFO, 5.0), LoadedModel(replace(INFO, revision="2"), 6.0)
    await hub.report(Report("old replica", Snapshot(), {KEY: old}))
    model = ReplicasHandle(Handle(), lambda: hub.recall(KEY))
    assert (await model.info()).revision == "1"
    await hub.report(Report("new replica", Snapshot(), {KEY: new}))
    for process, known in (("ingress", model.known), ("old replica", old)):
        assert known is not None
        answer = await hub.report(Report(process, Snapshot(), {KEY: known}))
        assert answer.models[KEY] == new
        model.learn(answer.models[KEY])
    assert (await model.info()).revision == "2"
    model.learn(old)
    assert (await model.ask()).revision == "1"  # an older replica answers
    assert (await model.info()).revision == "2"


async def test_a_replica_is_told_which_weights_its_scores_are_stored_for() -> None:
    handle = Mock()
    handle.score.remote = AsyncMock(return_value=[])
    model = ReplicasHandle(handle, AsyncMock(return_value=LoadedModel(INFO, 1.0)))
    await model.info()
    await model.score("q", [], ScoreOptions(), 5.0)
    assert handle.score.remote.call_args.kwargs["revision"] == INFO.revision
