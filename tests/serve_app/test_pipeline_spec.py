"""A pipeline as data: its steps, the models that it names, and its errors."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from serve_app.pipeline_spec import Pipeline, Rerank, problem


def pipeline(*stages: dict[str, Any]) -> Pipeline:
    return Pipeline.model_validate({"stages": list(stages)})


def test_if_mmr_comes_first_its_model_ranks_the_documents_before_it() -> None:
    found = pipeline({"mmr": "dense", "lambda": 0.3, "keep": 2})
    assert found.steps == (Rerank(rerank="dense"), *found.stages)
    assert found.scorer == "dense"


def test_mmr_after_another_stage_adds_no_step() -> None:
    found = pipeline({"rerank": "light"}, {"mmr": "dense"})
    assert found.steps == found.stages
    assert found.scorer == "light"


def test_names_are_listed_once_in_order() -> None:
    found = pipeline({"rerank": "bm25"}, {"fuse": ["b", "a"]}, {"rerank": "a"}, {"threshold": 0})
    assert found.names == ("bm25", "b", "a")
    assert found.scorer == "a"
    assert pipeline({"rerank": "bm25"}).scorer is None


@pytest.mark.parametrize(
    ("stages", "where", "said"),
    [
        ([{"rerank": "a"}, {"rerank": "b", "keep": 0}], "1.keep", "greater than or equal to 1"),
        ([{"rerank": 3}], "0.rerank", "valid string"),
        ([{"fuse": ["a"]}], "0.fuse", "must name 2 to 8 rankings, not 1"),
        ([{"mmr": "bm25"}], "0.mmr", "bm25 has no embeddings"),
        ([{"rerank": "a", "fuse": ["a", "b"]}], "0", "exactly one of rerank, fuse, mmr"),
        ([], "", "1 to 8 stages, not 0"),
        ([{"threshold": 0.5}], "", "a threshold needs a scoring stage before it"),
        ({"rerank": "a"}, "", "should be a list"),
        ([{"rerank": "a"}] * 9, "", "1 to 8 stages, not 9"),
        ([{"fuse": list("abcdefghi")}], "0.fuse", "must name 2 to 8 rankings, not 9"),
        ([{"rerank": "a", **dict.fromkeys("abcdefgh")}], "0", "must be an object"),
    ],
)
def test_a_problem_has_the_field_and_a_message(stages: Any, where: str, said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Pipeline.model_validate({"stages": stages})
    field, message = problem(caught.value)
    assert field == where
    assert said in message
    assert "Value error" not in message


@pytest.mark.parametrize(
    "stages",
    [
        [{"bad": 1}] * 100_000,
        [{"fuse": [1] * 100_000}],
        [{"rerank": "a", **{str(i): 1 for i in range(100_000)}}],
    ],
)
def test_a_pipeline_of_many_wrong_parts_has_one_error(stages: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        Pipeline.model_validate({"stages": stages})
    assert caught.value.error_count() == 1
