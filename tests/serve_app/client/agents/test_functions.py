"""Function calling: the tool's schema, and the answers to a model's calls."""

from __future__ import annotations

import json

import jsonschema
import pytest

from serve_app.client import Reranker
from serve_app.client.agents.functions import call_function, function_schema
from serve_app.errors import InvalidRequest

TEXTS = ["stocks fell", "pandas eat bamboo"]


def test_the_schema_is_valid_and_describes_every_argument() -> None:
    function = function_schema()["function"]
    parameters = function["parameters"]
    jsonschema.Draft202012Validator.check_schema(parameters)
    assert (function["name"], parameters["required"]) == ("rerank_texts", ["query", "texts"])
    assert parameters["properties"]["batch_size"]["type"] == "integer"
    assert parameters["properties"]["track_tokens"]["type"] == "boolean"
    assert all(field["description"] for field in parameters["properties"].values())
    jsonschema.validate({"query": "q", "texts": TEXTS, "top_k": 1}, parameters)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"query": "q"}, parameters)
    flat = function_schema("responses")
    assert (flat["type"], flat["name"], flat["parameters"]) == (
        "function",
        "rerank_texts",
        parameters,
    )


def test_a_call_returns_ranked_texts_as_json(reranker: Reranker) -> None:
    arguments = {"query": "pandas eat", "texts": TEXTS, "top_k": 1}
    answer = call_function(json.dumps(arguments), reranker)
    assert json.loads(answer) == {
        "results": [{"index": 1, "score": 2.0, "text": "pandas eat bamboo"}],
        "model": "words",
    }
    assert call_function(arguments, reranker) == answer


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("{", "Invalid JSON"),
        ('{"query": "q"}', "texts"),
        ('{"query": "q", "texts": [1]}', "texts.0"),
        ('{"query": "q", "texts": ["a"], "top_k": 0}', "top_k"),
        ('{"query": "q", "texts": ["a"], "topk": 1}', "topk"),
    ],
)
def test_invalid_arguments_are_reported(arguments: str, message: str, reranker: Reranker) -> None:
    with pytest.raises(InvalidRequest, match=message):
        call_function(arguments, reranker)
