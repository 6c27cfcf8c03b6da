"""The results of a response: documents, passages and stages."""

from __future__ import annotations

import json
import time

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.api.dialects import NATIVE, Dialect, Limits, read_json
from serve_app.api.dialects.cohere import V1
from serve_app.types import RankedDocument, RerankResult
from tests.serve_app.api.dialects.fakes import (
    ANY_TEXT,
    CASCADE,
    LIMITS,
    body,
    both,
    pipeline_body,
    result_for,
)


@both
@given(texts=st.lists(ANY_TEXT, min_size=1, max_size=4), objects=st.booleans())
def test_any_unicode_document_is_returned(
    dialect: Dialect, texts: list[str], objects: bool
) -> None:
    sent = body(
        documents=[{"text": t, "n": [t]} for t in texts] if objects else texts,
        return_documents=True,
    )
    request = dialect.parse(read_json(json.dumps(sent).encode(), None, Limits()), LIMITS)
    back = json.loads(dialect.render(result_for(request), request))["results"]
    for entry, text in zip(back, request.documents, strict=True):
        expected = "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in text)
        document = entry["document"]
        assert (document if dialect is NATIVE else document["text"]) == expected
        assert dialect is NATIVE or document.get("n", [expected]) == [expected]


@both
def test_a_thousand_results_render_fast(dialect: Dialect) -> None:
    sent = body(documents=["a"] * 1000, return_documents=False)
    request = dialect.parse(sent, Limits())
    result = result_for(request)

    def once() -> float:
        started = time.perf_counter()
        dialect.render(result, request)
        return time.perf_counter() - started

    assert min(once() for _ in range(20)) < 0.002


@pytest.mark.parametrize("dialect", [NATIVE, V1])
def test_the_number_of_passages_is_reported_if_documents_were_split(dialect: Dialect) -> None:
    request = dialect.parse({"query": "q", "documents": ["a", "b"]}, Limits())
    ranked = tuple(RankedDocument(i, 0.5, 0.5, "x") for i in (1, 0))
    split = RerankResult("id", "m", ranked, passages={1: 4})
    results = json.loads(dialect.render(split, request))["results"]
    assert [hit["passages"] for hit in results] == [4, 1]
    whole = json.loads(dialect.render(RerankResult("id", "m", ranked), request))["results"]
    assert all("passages" not in hit for hit in whole)


async def test_the_native_response_reports_every_stage(client: httpx.AsyncClient) -> None:
    answer = (await client.post("/rerank", json=pipeline_body(pipeline=CASCADE))).json()
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
    plain = (await client.post("/rerank", json=pipeline_body(model="light"))).json()
    assert "pipeline" not in plain
    assert "stages" not in plain["results"][0]
