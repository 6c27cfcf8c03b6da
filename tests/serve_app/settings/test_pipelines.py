"""Pipelines in the settings."""

from __future__ import annotations

from typing import Any

import pytest

from models.pipelines import lexical
from serve_app.pipeline_spec import Fuse, Mmr, Pipeline, Rerank
from serve_app.settings.settings import SettingsError, load

LIGHT, DENSE = {"name": "light"}, {"name": "dense", "family": "bi-encoder"}
STAGES = [
    {"fuse": ["bm25", "dense"], "keep": 100},
    {"rerank": "light", "keep": 50},
    {"mmr": "dense", "lambda": 0.7, "keep": 10},
]


def entry(*stages: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": "search", "pipeline": list(stages), **more}


def test_an_entry_with_stages_is_a_pipeline_beside_the_models() -> None:
    given = [entry(*STAGES, budget_ms=200, aliases=["best"], fallback="light"), LIGHT, DENSE]
    settings = load({"models": given}, {})
    assert [m.name for m in settings.model_settings()] == ["light", "dense"]
    pipeline = settings.pipelines()["search"]
    assert pipeline == Pipeline(
        stages=(
            Fuse(fuse=("bm25", "dense"), keep=100),
            Rerank(rerank="light", keep=50),
            Mmr(mmr="dense", keep=10, **{"lambda": 0.7}),
        ),
        budget_ms=200,
    )
    assert (pipeline.names, pipeline.scorer) == (("bm25", "dense", "light"), "light")
    catalog = settings.catalog()
    assert (catalog.default, catalog.resolve("best")) == ("search", "search")


def test_pipelines_alone_are_over_the_one_model() -> None:
    stage = {"rerank": "all-MiniLM-L6-v2-maxsim"}
    settings = load({"models": [entry(stage, {"threshold": 0.5})]}, {})
    assert settings.catalog().names == ("search", "all-MiniLM-L6-v2-maxsim")
    assert [m.source for m in settings.model_settings()] == ["embedded"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (entry({"rerank": "nobody"}), "names 'nobody', which is not served; models: light, dense"),
        (entry({"rerank": "search"}), "'search', which is a pipeline too"),
        (entry({"rerank": "light"}, {"mmr": "light"}), "'light' is none"),
        (entry({"rerank": "light", "keep": 0}), "greater than or equal to 1, got 0"),
        (entry({"rerank": "light", "keep": True}), "must be a number"),
        (entry({"rank": "light"}), "one of rerank, fuse, mmr and threshold"),
        (entry({"fuse": ["light"]}), "must name 2 to 8 rankings, not 1"),
        (entry({"fuse": ["light", "light"]}), "must not name a ranking twice"),
        (entry({"mmr": "bm25"}), "bm25 has no embeddings"),
        (entry({"threshold": 0.5}), "needs a scoring stage before it"),
        (entry(), "1 to 8 stages, not 0"),
        (entry({"rerank": "light"}, device="cpu"), "device belongs to a model, not to a pipeline"),
        (entry({"rerank": "light"}, provider="cohere"), "provider belongs to a model"),
        ({"name": "other", "budget_ms": 5}, "budget_ms belongs to a pipeline"),
        ({"name": "bm25"}, "a meaning of its own"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_wrong_stops_the_start(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        load({"models": [wrong, LIGHT, DENSE]}, {})


def test_a_pipeline_stands_in_for_nobody() -> None:
    with pytest.raises(SettingsError, match="is a pipeline"):
        load({"models": [entry({"rerank": "light"}), {**LIGHT, "fallback": "search"}]}, {})


def test_without_bm25s_the_start_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lexical, "installed", lambda: False)
    with pytest.raises(SettingsError, match=r"pip install 'rerank-serve\[pipelines\]'"):
        load({"models": [entry({"rerank": "bm25"}), LIGHT]}, {})
