"""Cohere's format, in both versions, and Jina's."""

from __future__ import annotations

import json

import httpx
import pytest

from models.images import ImageDocument
from serve_app import errors
from serve_app.api.dialects import Limits
from serve_app.api.dialects.cohere import JINA, V1, V1_DATA, V2
from tests.serve_app.api.dialects.fakes import (
    CASCADE,
    LIMITS,
    asked,
    body,
    pipeline_body,
    result_for,
)
from tests.serve_app.service.pipelines.fakes import Kit

PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
)


def test_v1_response() -> None:
    sent = body(documents=["a", {"text": "", "id": 4}], return_documents="true")
    request = V1.parse(sent, LIMITS)
    result = result_for(request, tokens=7, cached_tokens=3, truncated=(0,))
    answer = json.loads(V1.render(result, request))
    assert "index 0" in answer["meta"].pop("warnings")[0]
    assert answer == {
        "id": "r1",
        "object": "list",
        "model": "m",
        "results": [
            {"index": 0, "relevance_score": 0.5, "document": {"text": "a"}},
            {"index": 1, "relevance_score": 0.5, "document": {"text": "", "id": 4}},
        ],
        "meta": {
            "api_version": {"version": "1"},
            "billed_units": {"search_units": 1},
            "tokens": {"input_tokens": 7, "output_tokens": 0},
            "cached_tokens": 3,
        },
        "usage": {"total_tokens": 7, "prompt_tokens": 7},
    }


@pytest.mark.parametrize(("count", "units"), [(1, 1), (100, 1), (101, 2)])
def test_search_units(count: int, units: int) -> None:
    request = V1.parse(body(documents=["a"] * count), Limits())
    answer = json.loads(V1.render(result_for(request), request))
    assert answer["meta"]["billed_units"] == {"search_units": units}
    assert "document" not in answer["results"][0]
    assert "warnings" not in answer["meta"]


def test_cohere_v2_has_its_version_and_relevant_spans() -> None:
    body = {"query": "q", "documents": ["a", "b"], "relevant_spans": {"mode": "enabled"}}
    answer = asked(V2, body)
    assert answer["meta"]["api_version"] == {"version": "2"}
    spans = [hit.get("relevant_spans") for hit in answer["results"]]
    assert spans == [[{"start": 0, "end": 1, "score": 0.7}], None]
    assert "relevant_spans" not in asked(V2, {"query": "q", "documents": ["a"]})["results"][0]


def test_jina_accepts_objects_and_returns_documents_by_default() -> None:
    body = {"query": {"text": "q"}, "documents": ["a", {"text": "b"}]}
    answer = asked(JINA, body)
    assert [hit["document"] for hit in answer["results"]] == [{"text": "a"}, {"text": "b"}]
    assert answer["usage"]["total_tokens"] == 7
    image = JINA.parse({"query": "q", "documents": [{"image": PIXEL}]}, LIMITS).documents[0]
    assert image == ImageDocument(f"data:image/png;base64,{PIXEL}")
    with pytest.raises(errors.InvalidRequest, match="return_embeddings"):
        JINA.parse({**body, "return_embeddings": True}, LIMITS)
    assert JINA.parse({**body, "return_embeddings": False}, LIMITS).return_documents


def test_xinference_sends_booleans_as_strings() -> None:
    body = {"query": "q", "documents": ["a"], "return_documents": "true", "return_len": "true"}
    answer = asked(V1, body)
    assert answer["results"][0]["document"] == {"text": "a"}
    assert answer["meta"]["tokens"]["input_tokens"] == 7
    with pytest.raises(errors.InvalidRequest, match="return_len"):
        V1.parse({**body, "return_len": "some"}, LIMITS)


def test_on_coheres_path_voyage_fields_are_added() -> None:
    answer = asked(V1_DATA, {"query": "q", "documents": ["a", "b"], "top_k": 1})
    assert answer["data"] == [{"index": 0, "relevance_score": 0.9}]
    assert answer["results"] == answer["data"]
    assert answer["object"] == "list"


async def test_coheres_warnings_report_that_the_budget_ran_out(
    client: httpx.AsyncClient, kit: Kit
) -> None:
    kit.light.pause_s = 0.05
    answer = (
        await client.post("/v2/rerank", json=pipeline_body(pipeline=CASCADE, budget_ms=1))
    ).json()
    assert answer["meta"]["pipeline"]["stopped_early"] == "heavy"
    assert answer["meta"]["warnings"][0].startswith("The budget of 1 ms ran out")
    assert [hit["index"] for hit in answer["results"]] == [0, 1, 2]
