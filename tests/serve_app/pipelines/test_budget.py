"""The best order within so many milliseconds."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from tests.serve_app.pipelines.fakes import Kit, order, pipeline_of
from tests.waiting import settle, until

# The light model's order is that of the documents; the heavy one turns it round.
DOCUMENTS = [f"{0.9 - i / 100:.2f} {0.5 + i / 100:.2f} 1 0" for i in range(30)]
CASCADE = ({"rerank": "light"}, {"rerank": "heavy", "keep": 20})


async def test_a_budget_that_is_enough_changes_nothing() -> None:
    result = await Kit().ask(DOCUMENTS, *CASCADE, budget_ms=60_000)
    assert order(result) == list(range(29, 9, -1))
    assert (result.warnings, result.pipeline and result.pipeline.stopped_early) == ((), None)


async def test_what_the_heavy_model_had_scored_comes_first() -> None:
    kit = Kit()
    score = kit.heavy.score

    async def once(*args: object) -> object:
        if kit.heavy.rows:
            kit.heavy.gate.clear()  # the second part never comes back
        return await score(*args)  # type: ignore[arg-type]

    kit.heavy.score = once  # type: ignore[method-assign, assignment]
    result = await kit.ask(DOCUMENTS, *CASCADE, budget_ms=300)
    assert kit.heavy.rows == 8, "the best candidates go first"
    assert order(result) == [*range(7, -1, -1), *range(8, 20)], "its cut holds"
    shown = [hit.relevance_score for hit in result.results]
    assert shown == sorted(shown, reverse=True), "scores agree with the order"
    assert shown[:8] == pytest.approx([0.57 - i / 100 for i in range(8)])
    assert shown[8] == pytest.approx(0.5), "as far as it stays below"
    assert result.results[8].stages["light"].score == pytest.approx(0.82)
    assert "heavy" not in result.results[8].stages
    assert result.pipeline is not None
    assert result.pipeline.stopped_early == "heavy"
    assert result.warnings == (
        "The budget of 300 ms was used up in the stage 'heavy': 8 documents got its scores.",
    )
    kit.heavy.gate.set()
    kit.heavy.score = score  # type: ignore[method-assign]
    again = await kit.ask(DOCUMENTS, *CASCADE, budget_ms=60_000)
    assert order(again) == list(range(29, 9, -1))
    assert kit.heavy.rows == 30, "what was scored is kept"
    assert kit.admission.active == 0


async def test_the_first_stage_runs_to_its_end_and_no_other_begins() -> None:
    kit = Kit(slow=pipeline_of(*CASCADE, {"mmr": "dense", "keep": 3}, budget_ms=1))
    kit.light.pause_s = 0.05
    result = await kit.ask(DOCUMENTS, model="slow")
    assert order(result) == [0, 1, 2], "cuts of what did not run still hold"
    assert kit.heavy.asked == []
    assert result.pipeline is not None
    assert [s.name for s in result.pipeline.stages] == ["light", "heavy"]
    assert result.warnings[0].endswith("'heavy': it changed nothing.")
    whole = await kit.ask(DOCUMENTS, model="slow", budget_ms=60_000)
    assert order(whole) == [29, 28, 27], "a request's budget wins"


async def test_a_listwise_model_is_asked_once_for_all() -> None:
    kit = Kit()
    kit.heavy.info_ = replace(kit.heavy.info_, listwise=True)
    await kit.ask(DOCUMENTS, *CASCADE, budget_ms=60_000)
    assert [len(texts) for texts in kit.heavy.asked] == [30]


async def test_a_stage_is_scored_by_one_model_though_another_stands_in_midway() -> None:
    kit = Kit()
    score = kit.heavy.score

    async def fails(*args: object) -> object:
        if kit.heavy.rows:
            raise ConnectionError("gone")
        return await score(*args)  # type: ignore[arg-type]

    kit.heavy.score = fails  # type: ignore[method-assign, assignment]
    result = await kit.ask(DOCUMENTS, *CASCADE, budget_ms=60_000)
    assert order(result) == list(range(20)), "light's scores alone"


async def test_who_goes_away_leaves_nothing_behind() -> None:
    kit = Kit()
    kit.heavy.gate.clear()
    task = asyncio.create_task(kit.ask(DOCUMENTS, *CASCADE, budget_ms=60_000))
    await until(lambda: bool(kit.heavy.asked))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await settle()
    assert (kit.heavy.cancelled, kit.admission.active) == (1, 0)
