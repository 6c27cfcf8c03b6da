"""The service configured as in docs/pipelines.md, and the examples of that page."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cohere
import httpx
import pytest
import yaml

from tests.e2e.conftest import Service, kill, start
from tests.e2e.test_client_docs import ROOT, blocks, run

PAGE = (ROOT / "docs" / "pipelines.md").read_text()
QUERY = "how do pandas eat?"
DOCUMENTS = [
    "Stock prices fell on Monday.",
    "Pandas strip bamboo with their teeth.",
    "With their teeth pandas strip the bamboo.",
    "Bears sleep in winter.",
    "The zoo is open on Sundays.",
]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    found = re.search(r"^```yaml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    assert found
    args = yaml.safe_load(found[1])["args"]
    running = start(
        tmp_path_factory.mktemp("service") / "log",
        RERANKER_MODELS=json.dumps(args["models"]),
        RERANKER_DEFAULT_MODEL=args["default_model"],
    )
    yield running
    kill(running)


def ask(service: Service, **body: Any) -> dict[str, Any]:
    sent = {"query": QUERY, "documents": DOCUMENTS, **body}
    answer = httpx.post(f"{service.url}/rerank", json=sent, timeout=60)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.usefixtures("closed_connections")
def test_coheres_sdk_can_use_a_pipeline(service: Service) -> None:
    client = cohere.ClientV2("key", base_url=service.url)
    answer = client.rerank(model="cascade", query=QUERY, documents=DOCUMENTS, top_n=3)
    single = ask(service, model="precise", top_n=3)["results"]
    assert [hit.index for hit in answer.results] == [hit["index"] for hit in single]
    scores = [hit.relevance_score for hit in answer.results]
    assert scores == pytest.approx([hit["score"] for hit in single], abs=1e-6)


def test_a_configured_pipeline_runs_all_its_stages(service: Service) -> None:
    answer = ask(service, model="search")
    assert answer["model"] == "search"
    assert [s["name"] for s in answer["pipeline"]["stages"]] == [
        "rrf",
        "precise",
        "threshold",
        "mmr",
    ]
    best, *_, last = answer["results"]
    assert best["index"] in (1, 2)
    assert {"dense", "bm25", "rrf", "precise", "mmr"} <= set(best["stages"])
    assert best["stages"]["mmr"]["rank"] == 1
    assert last["score"] < best["score"]


def test_a_request_can_contain_a_pipeline(service: Service) -> None:
    said_twice = {1, 2}
    plain = [hit["index"] for hit in ask(service, pipeline=[{"rerank": "dense"}])["results"]]
    assert set(plain[:2]) == said_twice
    varied = ask(service, pipeline=[{"mmr": "dense", "lambda": 0.5, "keep": 2}])["results"]
    assert len(said_twice & {hit["index"] for hit in varied}) == 1
    late = ask(
        service, query="anew", pipeline=[{"rerank": "dense"}, {"rerank": "precise"}], budget_ms=1
    )
    assert late["pipeline"]["stopped_early"] == "precise"
    assert "budget of 1 ms" in late["warnings"][0]
    assert len(late["results"]) == len(DOCUMENTS)


def test_mmr_with_a_model_without_embeddings_is_rejected(
    service: Service,
) -> None:
    body = {"query": QUERY, "documents": DOCUMENTS, "pipeline": [{"mmr": "precise"}]}
    refused = httpx.post(f"{service.url}/v1/rerank", json=body, timeout=60)
    assert refused.status_code == 422
    assert "mmr needs a bi-encoder" in refused.json()["message"]


def test_pipelines_are_listed(service: Service) -> None:
    names = {m["id"] for m in httpx.get(f"{service.url}/v1/models", timeout=30).json()["data"]}
    assert {"dense", "precise", "cascade", "search"} <= names
    health = httpx.get(f"{service.url}/health", timeout=30).json()
    assert set(health["models"]) == {"dense", "precise"}
    assert health["pipelines"]["search"]["stages"][3] == {"mmr": "dense", "lambda": 0.7, "keep": 10}


def test_the_code_of_the_page_works(service: Service, tmp_path: Path) -> None:
    lines = run(blocks("pipelines.md", service), tmp_path).splitlines()
    assert len(lines) == 4
    assert "'mmr': 1" in lines[0]
    assert lines[3] == "()"
