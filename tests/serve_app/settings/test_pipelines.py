"""Pipelines in `models`: what a valid one becomes, and which ones are refused."""

from __future__ import annotations

from typing import Any

import pytest

from models.pipelines import lexical
from serve_app.pipeline_spec import Fuse, Mmr, Pipeline, Rerank
from serve_app.settings import SettingsError, load

LIGHT, DENSE = {"name": "light"}, {"name": "dense", "family": "bi-encoder"}
STAGES = [
    {"fuse": ["bm25", "dense"], "keep": 100},
    {"rerank": "light", "keep": 50},
    {"mmr": "dense", "lambda": 0.7, "keep": 10},
]


def entry(*stages: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": "search", "pipeline": list(stages), **more}


def test_an_entry_with_stages_is_a_pipeline_and_not_a_model() -> None:
    given = [entry(*STAGES, budget_ms=200, aliases=["best"], fallback="light"), LIGHT, DENSE]
    settings = load({"models": given}, {})
    assert [m.name for m in settings.models.served()] == ["light", "dense"]
    pipeline = settings.models.pipelines()["search"]
    assert pipeline == Pipeline(
        stages=(
            Fuse(fuse=("bm25", "dense"), keep=100),
            Rerank(rerank="light", keep=50),
            Mmr(mmr="dense", keep=10, **{"lambda": 0.7}),
        ),
        budget_ms=200,
    )
    assert (pipeline.names, pipeline.scorer) == (("bm25", "dense", "light"), "light")
    catalog = settings.models.catalog()
    assert (catalog.default, catalog.resolve("best")) == ("search", "search")


def test_with_pipelines_only_the_single_model_is_served_for_them() -> None:
    stage = {"rerank": "all-MiniLM-L6-v2-maxsim"}
    settings = load({"models": [entry(stage, {"threshold": 0.5})]}, {})
    assert settings.models.catalog().names == ("search", "all-MiniLM-L6-v2-maxsim")
    assert [m.source for m in settings.models.served()] == ["embedded"]


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (entry({"rerank": "nobody"}), "'nobody' is not served; models: light, dense"),
        (entry({"rerank": "search"}), "'search' is a pipeline"),
        (entry({"rerank": "light"}, {"mmr": "light"}), "'light' is not one"),
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
        ({"name": "bm25"}, "reserved for pipelines"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_pipeline_is_refused(wrong: dict[str, Any], error: str) -> None:
    with pytest.raises(SettingsError, match=error):
        load({"models": [wrong, LIGHT, DENSE]}, {})


def test_a_pipeline_cannot_be_a_fallback() -> None:
    with pytest.raises(SettingsError, match="is a pipeline"):
        load({"models": [entry({"rerank": "light"}), {**LIGHT, "fallback": "search"}]}, {})


def test_without_bm25s_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lexical, "installed", lambda: False)
    with pytest.raises(SettingsError, match=r"pip install 'rerank-serve\[pipelines\]'"):
        load({"models": [entry({"rerank": "bm25"}), LIGHT]}, {})
