"""Pipelines with a time budget."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from tests.serve_app.service.pipelines.fakes import Kit, order, pipeline_of
from tests.waiting import settle, until

# The light model keeps the documents' order; the heavy one reverses it.
DOCUMENTS = [f"{0.9 - i / 100:.2f} {0.5 + i / 100:.2f} 1 0" for i in range(30)]
CASCADE = ({"rerank": "light"}, {"rerank": "heavy", "keep": 20})


async def test_a_sufficient_budget_does_not_change_the_result() -> None:
    result = await Kit().ask(DOCUMENTS, *CASCADE, budget_ms=60_000)
    assert order(result) == list(range(29, 9, -1))
    assert (result.warnings, result.pipeline and result.pipeline.stopped_early) == ((), None)


async def test_documents_scored_within_the_budget_come_first() -> None:
    kit = Kit()
    score = kit.heavy.score

    async def score_first_group(*args: object) -> object:
        if kit.heavy.rows:
            kit.heavy.gate.clear()  # the second group is never scored
        return await score(*args)  # type: ignore[arg-type]

    kit.heavy.score = score_first_group  # type: ignore[method-assign, assignment]
    result = await kit.ask(DOCUMENTS, *CASCADE, budget_ms=300)
    assert kit.heavy.rows == 8, "the best candidates go first"
    assert order(result) == [*range(7, -1, -1), *range(8, 20)], "keep still applies"
    shown = [hit.relevance_score for hit in result.results]
    assert shown == sorted(shown, reverse=True), "scores agree with the order"
    assert shown[:8] == pytest.approx([0.57 - i / 100 for i in range(8)])
    assert shown[8] == pytest.approx(0.5), "capped at the lowest score above"
    assert result.results[8].stages["light"].score == pytest.approx(0.82)
    assert "heavy" not in result.results[8].stages
    assert result.pipeline is not None
    assert result.pipeline.stopped_early == "heavy"
    assert result.warnings == (
        "The budget of 300 ms ran out in the stage 'heavy': it scored 8 documents.",
    )
    kit.heavy.gate.set()
    kit.heavy.score = score  # type: ignore[method-assign]
    again = await kit.ask(DOCUMENTS, *CASCADE, budget_ms=60_000)
    assert order(again) == list(range(29, 9, -1))
    assert kit.heavy.rows == 30, "scores are cached"
    assert kit.admission.active == 0


async def test_the_first_stage_finishes_and_no_other_starts_after_the_budget() -> None:
    kit = Kit(slow=pipeline_of(*CASCADE, {"mmr": "dense", "keep": 3}, budget_ms=1))
    kit.light.pause_s = 0.05
    result = await kit.ask(DOCUMENTS, model="slow")
    assert order(result) == [0, 1, 2], "keep of skipped stages still applies"
    assert kit.heavy.asked == []
    assert result.pipeline is not None
    assert [s.name for s in result.pipeline.stages] == ["light", "heavy"]
    assert result.warnings[0].endswith("'heavy': it had no effect.")
    whole = await kit.ask(DOCUMENTS, model="slow", budget_ms=60_000)
    assert order(whole) == [29, 28, 27], "the request's budget takes precedence"


async def test_a_listwise_model_gets_all_documents_in_one_call() -> None:
    kit = Kit()
    kit.heavy.info_ = replace(kit.heavy.info_, listwise=True)
    await kit.ask(DOCUMENTS, *CASCADE, budget_ms=60_000)
    assert [len(texts) for texts in kit.heavy.asked] == [30]


async def test_a_stage_is_rescored_if_a_fallback_takes_over_midway() -> None:
    kit = Kit()
    score = kit.heavy.score

    async def fails(*args: object) -> object:
        if kit.heavy.rows:
            raise ConnectionError("gone")
        return await score(*args)  # type: ignore[arg-type]

    kit.heavy.score = fails  # type: ignore[method-assign, assignment]
    result = await kit.ask(DOCUMENTS, *CASCADE, budget_ms=60_000)
    assert order(result) == list(range(20)), "scored by light only"


async def test_cancelling_a_request_cancels_its_stages() -> None:
    kit = Kit()
    kit.heavy.gate.clear()
    task = asyncio.create_task(kit.ask(DOCUMENTS, *CASCADE, budget_ms=60_000))
    await until(lambda: bool(kit.heavy.asked))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await settle()
    assert (kit.heavy.cancelled, kit.admission.active) == (1, 0)
