"""Pipelines over HTTP: each format, and errors for invalid ones."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from models.pipelines import lexical
from serve_app.api.app import make_app
from serve_app.client import AsyncReranker, StageScore
from tests.serve_app.fakes import FakeFrontend
from tests.serve_app.service.pipelines.fakes import Kit, pipeline_of

DOCUMENTS = ["0.9 0.1", "0.8 0.7", "0.7 0.9", "0.1 1.0"]
CASCADE: list[dict[str, Any]] = [{"rerank": "light", "keep": 3}, {"rerank": "heavy"}]


@pytest.fixture
def kit() -> Kit:
    return Kit(both=pipeline_of(*CASCADE))


@pytest.fixture
def client(kit: Kit) -> httpx.AsyncClient:
    front = FakeFrontend()
    front.service = kit.service
    transport = httpx.ASGITransport(make_app(lambda: front), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://test")


def body(**more: Any) -> dict[str, Any]:
    return {"query": "bamboo", "documents": DOCUMENTS, "return_documents": False, **more}


async def test_the_native_response_reports_every_stage(client: httpx.AsyncClient) -> None:
    answer = (await client.post("/rerank", json=body(pipeline=CASCADE))).json()
    assert answer["model"] == "pipeline"
    assert answer["results"][0] == {
        "index": 2,
        "score": 0.9,
        "relevance_score": 0.9,
        "stages": {"light": {"score": 0.7, "rank": 3}, "heavy": {"score": 0.9, "rank": 1}},
    }
    stages = answer["pipeline"]["stages"]
    assert [(s["name"], s["documents"], s["kept"]) for s in stages] == [
        ("light", 4, 3),
        ("heavy", 3, 3),
    ]
    assert answer["pipeline"]["stopped_early"] is None
    plain = (await client.post("/rerank", json=body(model="light"))).json()
    assert "pipeline" not in plain
    assert "stages" not in plain["results"][0]


@pytest.mark.parametrize(
    ("path", "sent", "results", "score"),
    [
        ("/v2/rerank", {}, "results", "relevance_score"),
        ("/v1/rerank", {"top_k": 3}, "data", "relevance_score"),
        ("/voyage/v1/rerank", {}, "data", "relevance_score"),
        ("/v1/reranking", {"input": DOCUMENTS}, "data", "score"),
        ("/rerank", {"texts": DOCUMENTS}, None, "score"),
        ("/sglang/v1/rerank", {}, None, "score"),
        ("/v1/ranking", {"passages": DOCUMENTS}, "rankings", "logit"),
    ],
)
async def test_every_format_accepts_a_pipeline_as_a_model(
    client: httpx.AsyncClient, path: str, sent: dict[str, Any], results: str | None, score: str
) -> None:
    answer = await client.post(path, json={**body(model="both"), **sent})
    assert answer.status_code == 200, answer.text
    found = answer.json() if results is None else answer.json()[results]
    assert [hit["index"] for hit in found] == [2, 1, 0]
    assert [hit[score] for hit in found] == pytest.approx([0.9, 0.7, 0.1])


async def test_coheres_warnings_report_that_the_budget_ran_out(
    client: httpx.AsyncClient, kit: Kit
) -> None:
    kit.light.pause_s = 0.05
    answer = (await client.post("/v2/rerank", json=body(pipeline=CASCADE, budget_ms=1))).json()
    assert answer["meta"]["pipeline"]["stopped_early"] == "heavy"
    assert answer["meta"]["warnings"][0].startswith("The budget of 1 ms ran out")
    assert [hit["index"] for hit in answer["results"]] == [0, 1, 2]


async def test_each_query_of_a_batch_runs_through_the_stages(client: httpx.AsyncClient) -> None:
    many = {"queries": ["a", "b"], "documents": DOCUMENTS, "pipeline": CASCADE}
    answers = (await client.post("/rerank/batch", json=many)).json()["answers"]
    assert [[hit["index"] for hit in a["results"]] for a in answers] == [[2, 1, 0]] * 2


async def test_scoring_pairs_rejects_a_pipeline_that_drops_documents(
    client: httpx.AsyncClient,
) -> None:
    refused = await client.post(
        "/score", json={"text_1": "q", "text_2": DOCUMENTS, "model": "both"}
    )
    assert refused.status_code == 400
    assert "does not keep all documents" in refused.json()["message"]


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
    native = await client.post("/rerank", json=body(**sent))
    assert native.status_code == 422
    error = native.json()["error"]
    assert (error["param"], error["code"]) == (param, "invalid_request")
    assert said in error["message"]
    cohere = await client.post("/v1/rerank", json=body(**sent))
    assert cohere.status_code == 422
    assert cohere.json()["message"] == error["message"]


async def test_a_stage_with_an_unknown_model_is_not_found(client: httpx.AsyncClient) -> None:
    refused = await client.post("/rerank", json=body(pipeline=[{"rerank": "nobody"}]))
    assert refused.status_code == 404
    assert "Models: light, heavy, dense, both" in refused.json()["error"]["message"]


async def test_without_bm25s_the_error_names_the_extra(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lexical, "installed", lambda: False)
    refused = await client.post("/rerank", json=body(pipeline=[{"rerank": "bm25"}]))
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
