"""The formats of other servers: the fields that each parses, rejects and writes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.images import ImageDocument
from models.types import ScoreOptions
from serve_app import errors
from serve_app.api.dialects import NATIVE, Dialect, Limits
from serve_app.api.dialects.cohere import JINA, V1, V1_DATA, V2
from serve_app.api.dialects.mixedbread import MIXEDBREAD
from serve_app.api.dialects.nim import NIM
from serve_app.api.dialects.sglang import SGLANG
from serve_app.api.dialects.tei import TEI
from serve_app.api.dialects.voyage import VOYAGE
from serve_app.types import RankedDocument, RelevantSpan, RerankRequest, RerankResult, SpanOptions

LIMITS = Limits(max_documents=5)
PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=6,
)


def ranked(request: RerankRequest, **more: Any) -> RerankResult:
    found = tuple(
        RankedDocument(i, 0.9, 2.5, None, (RelevantSpan(0, 1, 0.7),) if i == 0 else ())
        for i in range(len(request.documents))
    )
    return RerankResult("r1", "m", found[: request.top_n], tokens=7, **more)


def asked(dialect: Dialect, body: dict[str, Any], **more: Any) -> Any:
    request = dialect.parse(body, LIMITS)
    return json.loads(dialect.render(ranked(request, **more), request))


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


def test_rank_fields_joins_the_named_fields_in_order() -> None:
    documents = [{"a": "one", "b": 2, "c": None}, {"b": "two"}, "plain"]
    body = {"query": "q", "documents": documents, "rank_fields": ["c", "b", "a", "b"]}
    request = V1.parse(body, LIMITS)
    assert request.documents == ("2\none", "two", "plain")
    assert request.originals == tuple(documents)
    with pytest.raises(errors.InvalidRequest, match="rank_fields"):
        V1.parse({**body, "rank_fields": ["x"]}, LIMITS)
    for wrong in ("a", [1], [""], ["a"] * 101):
        with pytest.raises(errors.InvalidRequest, match="rank_fields"):
            V1.parse({**body, "rank_fields": wrong}, LIMITS)


def test_cohere_v2_has_its_version_and_relevant_spans() -> None:
    body = {"query": "q", "documents": ["a", "b"], "relevant_spans": {"mode": "enabled"}}
    answer = asked(V2, body)
    assert answer["meta"]["api_version"] == {"version": "2"}
    spans = [hit.get("relevant_spans") for hit in answer["results"]]
    assert spans == [[{"start": 0, "end": 1, "score": 0.7}], None]
    assert "relevant_spans" not in asked(V2, {"query": "q", "documents": ["a"]})["results"][0]


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


def test_voyage() -> None:
    body = {"query": "q", "documents": ["a", "b"], "top_k": 1, "return_documents": True}
    assert asked(VOYAGE, body) == {
        "object": "list",
        "data": [{"index": 0, "relevance_score": 0.9, "document": "a"}],
        "model": "m",
        "usage": {"total_tokens": 7},
    }
    assert "index 0" in asked(VOYAGE, body, truncated=(0,))["warnings"][0]
    assert not VOYAGE.parse({**body, "truncation": False}, LIMITS).truncate
    too_long = errors.DocumentTooLong("long")
    assert VOYAGE.status(too_long) == 400
    assert VOYAGE.status(errors.Overloaded("full")) == 429
    assert json.loads(VOYAGE.error(too_long, "i"))["detail"] == "long"


def test_on_coheres_path_voyage_fields_are_added() -> None:
    answer = asked(V1_DATA, {"query": "q", "documents": ["a", "b"], "top_k": 1})
    assert answer["data"] == [{"index": 0, "relevance_score": 0.9}]
    assert answer["results"] == answer["data"]
    assert answer["object"] == "list"


def test_tei_returns_a_bare_list() -> None:
    body = {"query": "q", "texts": ["a", "b"], "raw_scores": False, "truncate": True}
    assert asked(TEI, body) == [{"index": 0, "score": 0.9}, {"index": 1, "score": 0.9}]
    more = {**body, "raw_scores": True, "return_text": True, "top_n": 1}
    assert asked(TEI, more) == [{"index": 0, "score": 2.5, "text": "a"}]
    assert TEI.parse(body, LIMITS).truncate
    assert not TEI.parse({**body, "truncate": False}, LIMITS).truncate
    assert not TEI.parse({**body, "truncation_direction": "Left"}, LIMITS).truncate
    assert TEI.parse({**body, "truncation_direction": "Right"}, LIMITS).truncate


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (errors.BadRequest("x"), 400, "Empty"),
        (errors.InvalidRequest("x"), 422, "Validation"),
        (errors.TooManyDocuments("x"), 413, "Validation"),
        (errors.DocumentTooLong("x"), 413, "Validation"),
        (errors.BodyTooLarge("x"), 413, "Validation"),
        (errors.MalformedBody("x"), 400, "Validation"),
        (errors.UnsupportedEncoding("x"), 415, "Validation"),
        (errors.UnknownModel("x"), 404, "Validation"),
        (errors.Overloaded("x"), 429, "Overloaded"),
        (errors.QueueTimeout("x"), 429, "Overloaded"),
        (errors.ShuttingDown("x"), 503, "Unhealthy"),
        (errors.ModelUnavailable("x"), 503, "Unhealthy"),
        (errors.ScoringFailed("x"), 424, "Backend"),
        (errors.DeadlineExceeded("x"), 424, "Backend"),
        (errors.RerankError("x"), 500, "Backend"),
    ],
)
def test_tei_errors(error: errors.RerankError, status: int, kind: str) -> None:
    assert TEI.status(error) == status
    assert json.loads(TEI.error(error, "i")) == {"error": "x", "error_type": kind}


def test_nim() -> None:
    body = {"query": {"text": "q"}, "passages": [{"text": "a"}, {"text": "b"}], "truncate": "END"}
    answer = asked(NIM, {**body, "top_n": 1})
    assert answer["rankings"] == [{"index": 0, "logit": 2.5}]
    assert NIM.parse(body, LIMITS).truncate
    assert not NIM.parse({**body, "truncate": "NONE"}, LIMITS).truncate
    with pytest.raises(errors.InvalidRequest, match="truncate"):
        NIM.parse({**body, "truncate": "MIDDLE"}, LIMITS)
    with pytest.raises(errors.BadRequest) as caught:
        NIM.parse({"query": {}, "passages": ["a"]}, LIMITS)
    assert NIM.status(caught.value) == 422
    assert NIM.status(errors.DocumentTooLong("x")) == 400
    assert json.loads(NIM.error(errors.UnknownModel("x"), "i"))["detail"] == "x"


def test_native_returns_ids_and_metadata_unchanged() -> None:
    documents = [{"text": "a", "id": [7], "metadata": {"x": None}}, {"text": "b"}, "c"]
    body = {"query": "q", "documents": documents, "return_documents": False}
    first, second, third = asked(NATIVE, body)["results"]
    assert (first["id"], first["metadata"]) == ([7], {"x": None})
    assert {"id", "metadata", "document"}.isdisjoint({*second, *third})


def test_native_raw_scores_and_unsorted_results() -> None:
    body = {"query": "q", "documents": ["a"], "raw_scores": "true", "sort": False}
    assert asked(NATIVE, body)["results"][0]["score"] == 2.5
    assert not NATIVE.parse(body, LIMITS).sort
    vllm = {"query": "q", "documents": ["a"], "use_activation": False}
    assert NATIVE.parse(vllm, LIMITS).raw_scores


def test_mixedbread() -> None:
    body = {"query": "q", "input": ["a", {"t": "b"}], "rank_fields": ["t"], "return_input": True}
    answer = asked(MIXEDBREAD, {**body, "top_k": 2})
    assert [entry["input"] for entry in answer["data"]] == ["a", {"t": "b"}]
    assert {entry["object"] for entry in answer["data"]} == {"rank_result"}
    assert (answer["top_k"], answer["return_input"], answer["object"]) == (2, True, "list")
    assert "input" not in asked(MIXEDBREAD, {"query": "q", "input": ["a"]})["data"][0]
    assert json.loads(MIXEDBREAD.error(errors.Overloaded("x"), "i"))["detail"] == "x"


def test_sglang() -> None:
    body = {"query": "q", "documents": ["a", "b"], "instruct": "find", "top_n": 1}
    assert SGLANG.parse(body, LIMITS).options.instruction == "find"
    (answer,) = asked(SGLANG, body)
    assert (answer["score"], answer["document"], answer["index"]) == (0.9, "a", 0)
    assert answer["meta_info"]["prompt_tokens"] == 7
    assert SGLANG.status(errors.InvalidRequest("x")) == 400
    assert json.loads(SGLANG.error(errors.InvalidRequest("x"), "i"))["code"] == 400
