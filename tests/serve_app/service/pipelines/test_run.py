"""What each kind of stage does to the documents of a request."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from models.types import Score, ScoreOptions
from serve_app.errors import (
    DocumentTooLong,
    InvalidRequest,
    ModelUnavailable,
    UnknownModel,
)
from serve_app.telemetry import to_json
from serve_app.types import RerankResult, SpanOptions
from tests.serve_app.service.pipelines.fakes import Kit, order, pipeline_of

# The score by the light model, then by the heavy one.
DOCUMENTS = ["0.9 0.1", "0.8 0.7", "0.7 0.9", "0.1 1.0"]
CASCADE = ({"rerank": "light", "keep": 3}, {"rerank": "heavy"})


def shown(result: RerankResult) -> list[float]:
    return [hit.relevance_score for hit in result.results]


async def test_a_cascade_reranks_the_documents_kept_by_the_first_stage() -> None:
    kit = Kit()
    result = await kit.ask(DOCUMENTS, *CASCADE)
    assert order(result) == [2, 1, 0]
    assert shown(result) == [0.9, 0.7, 0.1]
    assert kit.heavy.rows == 3, "the heavy model scores only what the light one kept"
    best = result.results[0].stages
    assert {name: (s.score, s.rank) for name, s in best.items()} == {
        "light": (0.7, 3),
        "heavy": (0.9, 1),
    }
    assert result.pipeline is not None
    assert [(s.name, s.documents, s.kept) for s in result.pipeline.stages] == [
        ("light", 4, 3),
        ("heavy", 3, 3),
    ]
    assert (result.model, result.tokens, result.warnings) == ("pipeline", 7, ())

    again = await kit.ask(DOCUMENTS, *CASCADE, top_n=1)
    assert (order(again), again.cached_tokens) == ([2], 7)
    assert (kit.light.rows, kit.heavy.rows) == (4, 3), "scores of stages are cached"


async def test_fusion_adds_up_reciprocal_ranks() -> None:
    kit = Kit()
    documents = ["0.9 bamboo", "0.5 stocks", "0.7 bamboo bamboo", "0.1 shares"]
    result = await kit.ask(documents, {"fuse": ["bm25", "light"], "k": 10, "keep": 3})
    words = {
        i: s["bm25"].rank for i, s in ((h.index, h.stages) for h in result.results) if "bm25" in s
    }
    assert set(words) == {0, 2}, "documents without a query word are not in the BM25 ranking"
    light = {0: 1, 2: 2, 1: 3}
    expected = {
        i: 1 / (10 + r) + (1 / (10 + words[i]) if i in words else 0) for i, r in light.items()
    }
    assert {h.index: h.relevance_score for h in result.results} == pytest.approx(expected)
    assert shown(result) == sorted(shown(result), reverse=True)
    assert {"bm25", "light", "rrf"} == set(result.results[0].stages)


async def test_bm25_can_be_the_only_ranking_stage() -> None:
    result = await Kit().ask(["bamboo", "x", "bamboo y"], {"rerank": "bm25"}, {"threshold": 0.01})
    assert order(result) == [0, 2]
    assert result.tokens == 0


async def test_mmr_moves_duplicates_down() -> None:
    documents = ["0.9 0 1 0", "0.8 0 1 0", "0.5 0 0 1"]
    kit = Kit()
    result = await kit.ask(documents, {"mmr": "dense", "lambda": 0.5})
    assert order(result) == [0, 2, 1]
    assert shown(result) == pytest.approx([0.45, 0.25, -0.1])
    assert set(result.results[0].stages) == {"dense", "mmr"}
    assert order(await kit.ask(documents, {"mmr": "dense", "lambda": 1})) == [0, 1, 2]
    # Scores of a fusion are rescaled: the best is 1 and the last 0.
    fused = await kit.ask(documents, {"fuse": ["light", "dense"]}, {"mmr": "dense", "keep": 2})
    assert (order(fused), shown(fused)) == ([0, 2], [0.5, 0.0])


async def test_a_threshold_removes_documents() -> None:
    kit = Kit()
    result = await kit.ask(DOCUMENTS, *CASCADE, {"threshold": 0.7})
    assert order(result) == [2, 1]
    nothing = await kit.ask(DOCUMENTS, {"rerank": "light"}, {"threshold": 2}, {"rerank": "heavy"})
    assert nothing.results == ()
    assert nothing.pipeline is not None
    assert [s.name for s in nothing.pipeline.stages] == ["light", "threshold"]


async def test_a_model_used_twice_reports_both_scores() -> None:
    result = await Kit().ask(DOCUMENTS, *CASCADE, {"rerank": "light"})
    assert order(result) == [0, 1, 2]
    assert set(result.results[0].stages) == {"light", "heavy", "light-2"}


async def test_sort_and_top_n_apply_to_the_last_stage() -> None:
    kit = Kit()
    result = await kit.ask(DOCUMENTS, *CASCADE, top_n=2, sort=False)
    assert order(result) == [1, 2]


async def test_concurrent_pipelines_finish_with_one_slot() -> None:
    kit = Kit(max_parallel=1)
    stages = ({"fuse": ["light", "dense", "bm25"]}, {"rerank": "heavy"}, {"mmr": "dense"})
    documents = [f"{d} 1 0" for d in DOCUMENTS]
    many = [kit.ask(documents, *stages) for _ in range(20)]
    # One slot for many stages: none holds a slot while it waits for another.
    answers = await asyncio.wait_for(asyncio.gather(*many), 10)
    assert len({tuple(order(answer)) for answer in answers}) == 1
    assert kit.admission.active == 0


async def test_a_stage_uses_its_models_fallback_and_a_pipeline_counts_as_one_request() -> None:
    kit = Kit()
    kit.heavy.failures = [ConnectionError("gone")]
    result = await kit.ask(DOCUMENTS, *CASCADE)
    assert order(result) == [0, 1, 2], "light is the fallback of heavy"
    counts = to_json(kit.telemetry.snapshot())
    assert counts["requests_by_model"] == {"pipeline": {"200": 1}}
    kit.light.failures = [ConnectionError("gone")]
    with pytest.raises(ModelUnavailable):
        await kit.ask(["0.1 0.2"], {"rerank": "light"})


async def test_a_configured_pipeline_can_have_a_fallback() -> None:
    kit = Kit(both=pipeline_of(*CASCADE), fallbacks={"both": "dense"})
    result = await kit.ask(DOCUMENTS, model="both")
    assert (result.model, order(result)) == ("both", [2, 1, 0])
    kit.light.failures = [ConnectionError("gone")]
    fallback = await kit.ask(["0.3 0.1"], model="both")
    assert (fallback.model, fallback.pipeline) == ("dense", None)


@pytest.mark.parametrize(
    ("stages", "kind", "said"),
    [
        ([{"rerank": "nobody"}], UnknownModel, "'nobody' is not served here"),
        ([{"rerank": "both"}], InvalidRequest, "'both' is a pipeline"),
        ([{"mmr": "light"}], InvalidRequest, "has no embeddings"),
    ],
)
async def test_stages_with_unusable_models_are_refused(
    stages: list[dict[str, str]], kind: type[Exception], said: str
) -> None:
    with pytest.raises(kind, match=said):
        await Kit(both=pipeline_of(*CASCADE)).ask(DOCUMENTS, *stages)


async def test_options_go_only_to_the_models_that_support_them() -> None:
    kit = Kit()
    options = ScoreOptions(instruction="find food", max_tokens_per_doc=5)
    with pytest.raises(InvalidRequest, match="no model in the pipeline supports instructions"):
        await kit.ask(DOCUMENTS, *CASCADE, options=options)
    kit.heavy.info_ = replace(kit.heavy.info_, takes_instruction=True)
    documents = [f"{document} 1 0" for document in DOCUMENTS]
    await kit.ask(documents, *CASCADE, {"mmr": "dense"}, options=options)
    assert kit.light.options == [ScoreOptions(max_tokens_per_doc=5)]
    assert kit.heavy.options == [options]


async def test_spans_come_from_the_last_ranking_model() -> None:
    kit = Kit()
    spans = SpanOptions(threshold=0.5)
    result = await kit.ask(["0.9 0.8", "0.8 0.1"], *CASCADE, relevant_spans=spans)
    assert [len(hit.relevant_spans) for hit in result.results] == [1, 0]
    with pytest.raises(InvalidRequest, match="relevant_spans needs a model"):
        await kit.ask(["bamboo"], {"rerank": "bm25"}, relevant_spans=spans)


async def test_a_budget_without_a_pipeline_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="budget_ms applies only to pipelines"):
        await Kit().ask(DOCUMENTS, budget_ms=5)


async def test_without_truncation_a_long_document_fails_in_any_stage() -> None:
    kit = Kit()
    long = "0.5 0.5 " + "word " * 100

    async def score(
        query: str, documents: list[str], options: ScoreOptions, timeout_s: float
    ) -> list[Score]:
        return [Score(0.5, 1, truncated=True) for _ in documents]

    kit.heavy.score = score  # type: ignore[method-assign, assignment]
    result = await kit.ask([long, "0.4 0.4"], *CASCADE)
    assert result.truncated == (0, 1)
    with pytest.raises(DocumentTooLong):
        await kit.ask([long, "0.4 0.4"], *CASCADE, truncate=False)
