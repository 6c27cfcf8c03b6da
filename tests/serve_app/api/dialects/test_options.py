"""The native format and Cohere's: parsing, errors and responses."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.types import ScoreOptions
from serve_app.api.dialects import NATIVE, Dialect, Limits, read_json
from serve_app.api.dialects.cohere import V1
from serve_app.errors import (
    BadRequest,
    InvalidRequest,
    Overloaded,
    RerankError,
)
from serve_app.types import RankedDocument, RerankRequest, RerankResult

LIMITS = Limits(max_documents=5, max_query_chars=20)
both = pytest.mark.parametrize("dialect", [NATIVE, V1], ids=lambda d: d.name)
_TEXT = st.text(st.characters(codec=None, exclude_categories=()), max_size=20)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=4),
    max_leaves=8,
)
_BODY = st.fixed_dictionaries(
    {},
    optional={
        name: _JSON | _TEXT | st.lists(_TEXT | st.fixed_dictionaries({"text": _JSON}), max_size=7)
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


def body(**more: Any) -> dict[str, Any]:
    return {"query": "q", "documents": ["a", "b", "c"], **more}


def result_for(request: RerankRequest, **more: Any) -> RerankResult:
    ranked = tuple(
        RankedDocument(index=i, relevance_score=0.5, logit=0.0, document=None)
        for i in range(len(request.documents))
    )
    return RerankResult(id="r1", model="m", results=ranked[: request.top_n], **more)


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


@both
@given(texts=st.lists(_TEXT, min_size=1, max_size=4), objects=st.booleans())
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
@pytest.mark.parametrize(
    ("change", "status", "param"),
    [
        ({"query": None}, 400, "query"),
        ({"query": " \n"}, 400, "query"),
        ({"query": 1}, 422, "query"),
        ({"query": "q" * 21}, 422, "query"),
        ({"documents": None}, 400, "documents"),
        ({"documents": []}, 400, "documents"),
        ({"documents": {}}, 422, "documents"),
        ({"documents": "abc"}, 422, "documents"),
        ({"documents": ["a"] * 6}, 422, "documents"),
        ({"documents": ["a", None]}, 422, "documents[1]"),
        ({"documents": ["a", 1]}, 422, "documents[1]"),
        ({"documents": [["a"]]}, 422, "documents[0]"),
        ({"documents": [{"title": "a"}]}, 422, "documents[0].text"),
        ({"documents": [{"text": None}]}, 422, "documents[0].text"),
        ({"top_n": 0}, 422, "top_n"),
        ({"top_n": -1}, 422, "top_n"),
        ({"top_n": True}, 422, "top_n"),
        ({"top_n": "2"}, 422, "top_n"),
        ({"top_n": 1.5}, 422, "top_n"),
        ({"model": 1}, 422, "model"),
        ({"model": "m" * 257}, 422, "model"),
        ({"return_documents": "yes"}, 422, "return_documents"),
        ({"return_documents": 1}, 422, "return_documents"),
    ],
)
def test_invalid_fields_are_rejected(
    dialect: Dialect, change: dict[str, Any], status: int, param: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        dialect.parse(body(**change), LIMITS)
    assert (caught.value.status, caught.value.param) == (status, param)
    assert isinstance(caught.value, BadRequest) == (status == 400)


@both
def test_deeply_nested_documents_are_rejected(dialect: Dialect) -> None:
    deep: Any = "x"
    for _ in range(300):
        deep = [deep]
    with pytest.raises(InvalidRequest):
        dialect.parse(body(documents=[{"text": "a", "deep": deep}]), LIMITS)


@both
@pytest.mark.parametrize(
    ("top_n", "expected"), [(None, None), (1, 1), (3, 3), (4, 3), (2.0, 2), (1e30, 3)]
)
def test_top_n(dialect: Dialect, top_n: Any, expected: int | None) -> None:
    assert dialect.parse(body(top_n=top_n), LIMITS).top_n == expected


def test_native_accepts_top_k_and_rejects_a_different_top_n() -> None:
    assert NATIVE.parse(body(top_k=2), LIMITS).top_n == 2
    assert NATIVE.parse(body(top_k=2, top_n=2), LIMITS).top_n == 2
    with pytest.raises(InvalidRequest):
        NATIVE.parse(body(top_k=2, top_n=1), LIMITS)


@both
def test_booleans_as_strings(dialect: Dialect) -> None:
    assert dialect.parse(body(return_documents="True"), LIMITS).return_documents
    assert not dialect.parse(body(return_documents="false"), LIMITS).return_documents
    assert dialect.parse(body(), LIMITS).return_documents == (dialect is NATIVE)


def test_native_response() -> None:
    request = NATIVE.parse(body(documents=["a", {"text": ""}], unknown=1), LIMITS)
    result = result_for(request, tokens=7, truncated=(1,), timings_ms={"total": 1.23456})
    answer = json.loads(NATIVE.render(result, request))
    assert "index 1" in answer.pop("warnings")[0]
    assert abs(answer.pop("created") - time.time()) < 5
    assert answer == {
        "id": "r1",
        "object": "rerank",
        "model": "m",
        "results": [
            {"index": 0, "document": "a", "score": 0.5, "relevance_score": 0.5},
            {"index": 1, "document": "", "score": 0.5, "relevance_score": 0.5},
        ],
        "processing_time_ms": 1.235,
        "usage": {"prompt_tokens": 7, "total_tokens": 7},
    }


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


@pytest.mark.parametrize("dialect", [NATIVE, V1])
def test_the_number_of_passages_is_reported_if_documents_were_split(dialect: Dialect) -> None:
    request = dialect.parse({"query": "q", "documents": ["a", "b"]}, Limits())
    ranked = tuple(RankedDocument(i, 0.5, 0.5, "x") for i in (1, 0))
    split = RerankResult("id", "m", ranked, passages={1: 4})
    results = json.loads(dialect.render(split, request))["results"]
    assert [hit["passages"] for hit in results] == [4, 1]
    whole = json.loads(dialect.render(RerankResult("id", "m", ranked), request))["results"]
    assert all("passages" not in hit for hit in whole)
