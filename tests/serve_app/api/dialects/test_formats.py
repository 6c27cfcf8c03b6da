"""All dialects: arbitrary bodies, the shapes of errors, and pipelines as models."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_app import errors
from serve_app.api.dialects import NATIVE, Dialect, Limits, read_json
from serve_app.api.dialects.cohere import JINA, V1, V2
from serve_app.api.dialects.mixedbread import MIXEDBREAD
from serve_app.api.dialects.nim import NIM
from serve_app.api.dialects.sglang import SGLANG
from serve_app.api.dialects.tei import TEI
from serve_app.api.dialects.voyage import VOYAGE
from serve_app.errors import Overloaded, RerankError
from tests.serve_app.api.dialects.fakes import (
    ANY_TEXT,
    DOCUMENTS,
    LIMITS,
    both,
    pipeline_body,
    ranked,
    result_for,
)

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=6,
)
_UNICODE_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=4),
    max_leaves=8,
)
_BODY = st.fixed_dictionaries(
    {},
    optional={
        name: _UNICODE_JSON
        | ANY_TEXT
        | st.lists(ANY_TEXT | st.fixed_dictionaries({"text": _UNICODE_JSON}), max_size=7)
        for name in (
            "query",
            "documents",
            "top_n",
            "top_k",
            "model",
            "return_documents",
            "long_document",
            "instruction",
        )
    },
)


@pytest.mark.parametrize(
    "dialect", [TEI, VOYAGE, NIM, JINA, V2, MIXEDBREAD, SGLANG], ids=lambda d: d.name
)
@settings(deadline=None)
@given(
    sent=st.fixed_dictionaries(
        {},
        optional={
            name: _JSON | st.lists(st.text(max_size=5), max_size=3)
            for name in (
                *("query", "texts", "documents", "passages", "top_k", "truncate", "truncation"),
                *("rank_fields", "priority", "relevant_spans", "max_doc_length", "return_text"),
                *("input", "return_input", "instruct"),
                *("truncation_direction", "max_chunks_per_doc", "return_embeddings", "sort"),
            )
        },
    )
)
def test_arbitrary_bodies_parse_or_raise_a_client_error(
    dialect: Dialect, sent: dict[str, Any]
) -> None:
    try:
        request = dialect.parse(sent, LIMITS)
    except errors.RerankError as error:
        if not 400 <= dialect.status(error) < 500:
            raise
        json.loads(dialect.error(error, "id"))
        return
    json.loads(dialect.render(ranked(request), request))


@both
@given(sent=_BODY)
def test_arbitrary_bodies_parse_or_raise_a_rerank_error(
    dialect: Dialect, sent: dict[str, Any]
) -> None:
    try:
        read = read_json(json.dumps(sent).encode(), "application/json", Limits())
        request = dialect.parse(read, LIMITS)
    except RerankError as error:
        json.loads(dialect.error(error, "id"))
        return
    assert 1 <= len(request.documents) <= 5
    assert request.top_n is None or 1 <= request.top_n <= len(request.documents)
    json.loads(dialect.render(result_for(request), request))


def test_error_shapes() -> None:
    error = Overloaded("full \ud800", param="p")
    assert json.loads(NATIVE.error(error, "i")) == {
        "error": {
            "code": "overloaded",
            "message": "full \ufffd",
            "param": "p",
            "type": "RateLimitError",
        },
        "request_id": "i",
    }
    assert json.loads(V1.error(error, "i")) == {
        "message": "full \ufffd",
        "detail": "full \ufffd",
        "id": "i",
        "code": "overloaded",
        "error": {
            "message": "full \ufffd",
            "type": "RateLimitError",
            "param": "p",
            "code": 429,
        },
    }


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
    answer = await client.post(path, json={**pipeline_body(model="both"), **sent})
    assert answer.status_code == 200, answer.text
    found = answer.json() if results is None else answer.json()[results]
    assert [hit["index"] for hit in found] == [2, 1, 0]
    assert [hit[score] for hit in found] == pytest.approx([0.9, 0.7, 0.1])
