"""Options of a request: parsing, other names, and errors for invalid ones."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from models.pipelines import lexical
from models.types import ScoreOptions
from serve_app import errors
from serve_app.api.dialects import NATIVE, Dialect, Limits
from serve_app.api.dialects.cohere import V1, V2
from serve_app.client import AsyncReranker, StageScore
from serve_app.errors import InvalidRequest
from serve_app.types import SpanOptions
from tests.serve_app.api.dialects.fakes import CASCADE, DOCUMENTS, LIMITS, pipeline_body
from tests.serve_app.service.pipelines.fakes import Kit


@pytest.mark.parametrize("dialect", [NATIVE, V1])
def test_score_options(dialect: Dialect) -> None:
    body = {
        "query": "q",
        "documents": ["d"],
        "instruction": "find",
        "max_tokens_per_doc": 7,
        "long_document": "max_passage",
    }
    assert dialect.parse(body, Limits()).options == ScoreOptions("find", 7, "max_passage")
    plain = {"query": "q", "documents": ["d"], "instruction": "", "long_document": None}
    assert dialect.parse(plain, Limits()).options == ScoreOptions()


@pytest.mark.parametrize("dialect", [NATIVE, V1])
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("instruction", 3),
        ("instruction", "x" * 5000),
        ("max_tokens_per_doc", 0),
        ("max_tokens_per_doc", "many"),
        ("long_document", "split"),
        ("long_document", []),
    ],
)
def test_invalid_score_options_are_rejected(dialect: Dialect, field: str, value: Any) -> None:
    with pytest.raises(InvalidRequest, match=field):
        dialect.parse({"query": "q", "documents": ["d"], field: value}, Limits())


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (None, None),
        ({"mode": "disabled", "max_spans": 3}, None),
        ({"mode": "enabled"}, SpanOptions(0.1, None)),
        ({"mode": "enabled", "threshold": 0, "max_spans": 2}, SpanOptions(0.0, 2)),
    ],
)
def test_relevant_spans(sent: Any, expected: Any) -> None:
    body = {"query": "q", "documents": ["a"], "relevant_spans": sent}
    assert V2.parse(body, LIMITS).relevant_spans == expected


@pytest.mark.parametrize(
    "sent",
    [
        *("enabled", [], {}, {"mode": "on"}, {"mode": []}, {"mode": "enabled", "threshold": 2}),
        *({"mode": "enabled", "max_spans": 0}, {"mode": "enabled", "threshold": True}),
    ],
)
def test_invalid_relevant_spans_are_rejected(sent: Any) -> None:
    with pytest.raises(errors.InvalidRequest, match="relevant_spans"):
        V2.parse({"query": "q", "documents": ["a"], "relevant_spans": sent}, LIMITS)


def test_priority() -> None:
    body = {"query": "q", "documents": ["a"]}
    assert V2.parse(body, LIMITS).priority == 0
    assert V2.parse({**body, "priority": 999}, LIMITS).priority == 999
    for wrong in (-1, 1000, "high", True, 1.5):
        with pytest.raises(errors.InvalidRequest, match="priority"):
            V2.parse({**body, "priority": wrong}, LIMITS)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"max_chunks_per_doc": 1}, ScoreOptions(long_document="truncate")),
        ({"max_chunks_per_doc": 10}, ScoreOptions(long_document="max_passage")),
        ({"max_doc_length": 9}, ScoreOptions(max_tokens_per_doc=9)),
        ({"max_doc_length": 9, "max_tokens_per_doc": 5}, ScoreOptions(max_tokens_per_doc=5)),
        ({"truncate_prompt_tokens": -1}, ScoreOptions()),
        ({"truncate_prompt_tokens": 64}, ScoreOptions(max_tokens_per_doc=64)),
    ],
)
def test_other_names_for_the_document_length(more: dict[str, Any], expected: ScoreOptions) -> None:
    assert V1.parse({"query": "q", "documents": ["a"], **more}, LIMITS).options == expected


@pytest.mark.parametrize(
    ("sent", "param", "said"),
    [
        ({"pipeline": [{"rerank": "light", "keep": 0}]}, "pipeline.0.keep", "greater than or"),
        ({"pipeline": [{"rank": "light"}]}, "pipeline.0", "one of rerank, fuse, mmr"),
        ({"pipeline": "light"}, "pipeline", "should be a list"),
        ({"pipeline": CASCADE, "model": "light"}, "pipeline", "model or pipeline"),
        ({"pipeline": [{"rerank": "both"}]}, "pipeline", "is a pipeline"),
        ({"pipeline": CASCADE, "budget_ms": 0}, "budget_ms", "positive integer"),
        ({"model": "light", "budget_ms": 5}, "budget_ms", "only to pipelines"),
    ],
)
async def test_errors_name_the_field_in_the_shape_of_the_format(
    client: httpx.AsyncClient, sent: dict[str, Any], param: str, said: str
) -> None:
    native = await client.post("/rerank", json=pipeline_body(**sent))
    assert native.status_code == 422
    error = native.json()["error"]
    assert (error["param"], error["code"]) == (param, "invalid_request")
    assert said in error["message"]
    cohere = await client.post("/v1/rerank", json=pipeline_body(**sent))
    assert cohere.status_code == 422
    assert cohere.json()["message"] == error["message"]


async def test_a_stage_with_an_unknown_model_is_not_found(client: httpx.AsyncClient) -> None:
    refused = await client.post("/rerank", json=pipeline_body(pipeline=[{"rerank": "nobody"}]))
    assert refused.status_code == 404
    assert "Models: light, heavy, dense, both" in refused.json()["error"]["message"]


async def test_without_bm25s_the_error_names_the_extra(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lexical, "installed", lambda: False)
    refused = await client.post("/rerank", json=pipeline_body(pipeline=[{"rerank": "bm25"}]))
    assert refused.status_code == 422
    assert "rerank-serve[pipelines]" in refused.json()["error"]["message"]


async def test_our_client_sends_pipelines_and_parses_stages(
    client: httpx.AsyncClient, kit: Kit
) -> None:
    async with AsyncReranker("http://test", client=client, model="light", batch_size=2) as reranker:
        found = await reranker.rerank("bamboo", DOCUMENTS, pipeline=CASCADE)
        assert [hit.index for hit in found] == [2, 1, 0]
        assert found.hits[0].stages["light"] == StageScore(0.7, 3)
        assert (found.requests, found.warnings) == (1, ())
        named = await reranker.rerank("bamboo", DOCUMENTS, model="both", batch_size=9, top_k=2)
        assert [hit.index for hit in named] == [2, 1]
        apart = await reranker.rerank("bamboo", DOCUMENTS, model="both")
        assert "raise batch_size" in apart.warnings[0]
        kit.light.pause_s = 0.05
        late = await reranker.rerank("other", DOCUMENTS, pipeline=CASCADE, budget_ms=1)
        assert late.warnings[0].startswith("The budget of 1 ms")
        many = await reranker.batch([("a", DOCUMENTS), ("b", DOCUMENTS)], pipeline=CASCADE)
        assert [[hit.index for hit in one] for one in many] == [[2, 1, 0]] * 2
