"""Requests that can cost a server far more than their size suggests, by name.

Bodies are built on demand, since some take 9 MB. Each fits into the default maximum of a body.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import partial

import zstandard

from benchmarks.raw_http import Request

MB = 1_000_000
QUERY = "how do pandas eat?"
SENTENCE = "Pandas strip bamboo with their teeth. "
WORDS = SENTENCE.replace(".", "").lower()
# A token for every two bytes.
LETTERS = "a b c d e f g h "
# Each mark sorts before the one in front of it (combining classes 230 and 220), which makes
# normalization quadratic in the length of the run.
MARKS = "\u0301\u0316"
# Headers of the service, of its tracing and of Ray Serve, which reads them as text.
READ_HEADERS = (
    "x-request-id",
    "x-request-timeout-seconds",
    "x-request-disconnect-disabled",
    "serve_multiplexed_model_id",
    "x-session-id",
    "traceparent",
    "authorization",
)


class Sending(Enum):
    """How the requests of a case are sent."""

    WHOLE = "whole"
    # All but the last byte of the body, and then nothing.
    UNFINISHED = "unfinished"
    # Headers, then a byte of the body every few seconds.
    DRIPPING_BODY = "dripping body"
    # A header line every few seconds, and no end of the headers.
    DRIPPING_HEADERS = "dripping headers"


class Model(Enum):
    """The model that the case is worst for."""

    EMBEDDED = "embedded"
    CROSS_ENCODER = "tiny cross-encoder"


@dataclass(frozen=True)
class Case:
    """`make` builds the request, which is sent `copies` times at once."""

    about: str
    make: Callable[[], Request]
    copies: int = 1
    sending: Sending = Sending.WHOLE
    model: Model = Model.EMBEDDED


def _rerank(query: str, documents: list[object], **fields: object) -> Request:
    return Request.json("/rerank", {"query": query, "documents": documents, **fields})


def _marks(count: int) -> str:
    return "a" + MARKS * (count // 2)


def _marks_with_deadline() -> Request:
    made = _rerank(QUERY, [_marks(500_000)])
    return Request(made.path, made.body, {"x-request-timeout-ms": b"2000"})


def _one_wrong_document() -> Request:
    documents: list[object] = [{"text": "a"}] * 1_999
    return Request.json("/rerank/batch", {"queries": ["q"] * 2_000, "documents": [*documents, 7]})


def _list_in_document() -> Request:
    document = {"text": "a", "metadata": [0] * 100_000}
    return Request.json("/rerank/batch", {"queries": _queries(100), "documents": [document]})


def _rank_fields() -> Request:
    document = {"body": {"words": ["bamboo"] * 180_000}}
    body = {"queries": _queries(100), "documents": [document], "rank_fields": ["body"]}
    return Request.json("/rerank/batch", body)


def _many_queries() -> Request:
    return Request.json("/rerank/batch", {"queries": _queries(10_000), "documents": ["a panda"]})


def _queries(count: int) -> list[str]:
    return [f"query {i}" for i in range(count)]


def _pairs() -> Request:
    texts = [f"{WORDS}{i}" for i in range(10_000)]
    return Request.json("/score", {"text_1": _queries(10_000), "text_2": texts})


def _filled(text: str, size: int) -> str:
    return (text * (size // len(text) + 1))[:size]


def _max_passage() -> Request:
    return _rerank(QUERY, [_filled(LETTERS, 9 * MB)], long_document="max_passage")


def _max_chunks() -> Request:
    document = _filled(LETTERS, 9 * MB)
    body = {"query": QUERY, "documents": [document], "max_chunks_per_doc": 10_000}
    return Request.json("/v1/rerank", body)


def _echoed() -> Request:
    made = _rerank(QUERY, [_filled(WORDS, 90_000)] * 100, return_documents=True)
    return Request(made.path, made.body, {"accept-encoding": b"gzip"})


def _long_query() -> Request:
    return _rerank(_filled(WORDS, 99_000), [f"panda {i}" for i in range(4_000)])


def _long_pair() -> Request:
    # Three bytes and a token each, so that the query stays under 100,000 characters.
    return _rerank("熊" * 83_000, ["猫" * 83_000])


def _fields() -> Request:
    document = {"text": "a panda", **{f"field {i}": i for i in range(100_000)}}
    return _rerank(QUERY, [document], rank_fields=["text"])


def _top_level_fields() -> Request:
    body = {f"field {i}": i for i in range(100_000)}
    return Request.json("/v1/rerank", {**body, "query": QUERY, "documents": ["a panda"]})


def _lenient_json() -> Request:
    # A lone surrogate, which only the slower of two JSON parsers accepts.
    body = b'{"query": "q", "documents": [' + b'{"a":1},' * 950_000 + b'"\\ud800"]}'
    return Request("/v1/rerank", body)


def _digits() -> Request:
    digits = b"9" * (9 * MB)
    head, tail = b'{"query": "\\ud800", "documents": ["a"], "top_n": ', b"}"
    return Request("/v1/rerank", head + digits + tail)


def _nested_json() -> Request:
    deep = b"[" * (4 * MB) + b"]" * (4 * MB)
    return Request("/v1/rerank", b'{"query": "\\ud800", "documents": ' + deep + b"}")


def _nested_document() -> Request:
    deep = b'{"a":' * 1_000 + b"1" + b"}" * 1_000
    return Request("/rerank", b'{"query": "q", "documents": [' + deep + b"]}")


def _empty_members() -> Request:
    member = gzip.compress(b"", mtime=0)
    body = member * (3 * 2**20 // len(member)) + gzip.compress(b'{"query": "q"}', mtime=0)
    return Request("/v1/rerank", body, {"content-encoding": b"gzip"})


def _empty_frames() -> Request:
    frame = zstandard.compress(b"")
    body = frame * (3 * 2**20 // len(frame)) + zstandard.compress(b'{"query": "q"}')
    return Request("/v1/rerank", body, {"content-encoding": b"zstd"})


def _gzip_bomb() -> Request:
    member = gzip.compress(b" " * MB, mtime=0)
    return Request("/v1/rerank", member * 1_000, {"content-encoding": b"gzip"})


def _wide_lists() -> Request:
    lists = b",".join([b"[]"] * MB)
    return Request("/v1/rerank", b'{"query": "q", "documents": ["a"], "x": [' + lists + b"]}")


def _upload() -> Request:
    return _rerank(QUERY, [_filled(WORDS, 9_900_000)])


def _small() -> Request:
    return _rerank(QUERY, [_filled(WORDS, 1_000)])


def _with_headers(headers: Mapping[str, bytes]) -> Request:
    made = _rerank(QUERY, [SENTENCE])
    return Request("/v1/rerank", made.body, headers)


def _spans(text: str) -> Request:
    return _rerank(QUERY, [text], relevant_spans={"mode": "enabled"})


def _spans_of_sentences() -> Request:
    return _spans("".join(f"Pandas strip bamboo with {i} teeth. " for i in range(9_900)))


def _punctuation() -> Request:
    return _rerank(QUERY, [_filled("!?,.;:-", 9 * MB)])


def _many_documents() -> Request:
    return _rerank(QUERY, [f"{_filled(WORDS, 900)} {i}" for i in range(10_000)])


CASES: Mapping[str, Case] = {
    "marks-document": Case(
        "a document of 40,000 alternating combining marks (80 kB)",
        lambda: _rerank(QUERY, [_marks(40_000)]),
    ),
    "marks-query": Case(
        "a query of 100,000 alternating combining marks",
        lambda: _rerank(_marks(99_998), ["a panda"]),
    ),
    "marks-megabyte": Case(
        "a document of 500,000 alternating combining marks (1 MB), with a deadline of 2 s",
        _marks_with_deadline,
    ),
    "batch-wrong-document": Case(
        "a batch of 2,000 queries over 2,000 documents, the last of the wrong type",
        _one_wrong_document,
    ),
    "batch-list-in-document": Case(
        "a batch of 100 queries over a document with a list of 100,000 elements",
        _list_in_document,
    ),
    "batch-rank-fields": Case(
        "a batch of 100 queries, rank_fields over a field of 1.6 MB", _rank_fields
    ),
    "batch-queries": Case("a batch of 10,000 queries over one document", _many_queries),
    "score-pairs": Case("/score with 10,000 different queries and texts", _pairs),
    "many-documents": Case("10,000 documents of 0.9 kB", _many_documents),
    "echoed-documents": Case("9 MB of documents, returned with gzip", _echoed),
    "fields-of-document": Case("a document of 100,000 fields", _fields),
    "fields-of-body": Case("a body of 100,000 fields", _top_level_fields),
    "lenient-json": Case("7.6 MB of JSON with a lone surrogate", _lenient_json),
    "digits": Case("a number of 9,000,000 digits", _digits),
    "nested-json": Case("4,000,000 nested lists, with a lone surrogate", _nested_json),
    "nested-document": Case("a document of 1,000 nested objects", _nested_document),
    "gzip-empty-members": Case("3 MiB of empty gzip members", _empty_members),
    "zstd-empty-frames": Case("3 MiB of empty zstd frames", _empty_frames),
    "gzip-bomb": Case("1 MB of gzip that expands to 1 GB", _gzip_bomb),
    "wide-lists": Case("12 requests with 3 MB of empty lists each", _wide_lists, copies=12),
    "unfinished-uploads": Case(
        "60 uploads of 9.9 MB that never end", _upload, copies=60, sending=Sending.UNFINISHED
    ),
    "dripping-bodies": Case(
        "900 bodies of a byte every 3 s", _small, copies=900, sending=Sending.DRIPPING_BODY
    ),
    "dripping-headers": Case(
        "4,200 requests of a header line every 3 s",
        _small,
        copies=4_200,
        sending=Sending.DRIPPING_HEADERS,
    ),
    **{
        f"byte-in-{name}": Case(
            f"a byte above 127 in {name}", partial(_with_headers, {name: b"caf\xe9"})
        )
        for name in READ_HEADERS
    },
    "long-request-id": Case(
        "an x-request-id of 200 characters", partial(_with_headers, {"x-request-id": b"a" * 200})
    ),
    "huge-request-id": Case(
        "an x-request-id of 50 kB", partial(_with_headers, {"x-request-id": b"a" * 50_000})
    ),
    "spans-sentences": Case("relevant_spans of 9,900 sentences", _spans_of_sentences),
    "spans-dots": Case("relevant_spans of 32,000 full stops", lambda: _spans("." * 32_000)),
    "punctuation": Case("a document of 9 MB of punctuation", _punctuation),
    "max-passage": Case("9 MB of one-letter words with long_document: max_passage", _max_passage),
    "max-chunks": Case("9 MB of one-letter words with max_chunks_per_doc", _max_chunks),
    "long-query": Case(
        "a query of 99 kB over 4,000 short documents", _long_query, model=Model.CROSS_ENCODER
    ),
    "long-pair": Case(
        "a query of 0.25 MB with a document of 0.25 MB", _long_pair, model=Model.CROSS_ENCODER
    ),
    "punctuation-pair": Case(
        "a document of 9 MB of punctuation", _punctuation, model=Model.CROSS_ENCODER
    ),
    "max-passage-pair": Case(
        "9 MB of one-letter words with long_document: max_passage",
        _max_passage,
        model=Model.CROSS_ENCODER,
    ),
}
