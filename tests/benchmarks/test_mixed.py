"""The requests and tables of `benchmarks.mixed`."""

from __future__ import annotations

import random

import orjson
import pytest

from benchmarks import mixed, raw_http
from benchmarks.dialects import DIALECTS
from benchmarks.mixed import BAD, CHANGES, COLUMNS, DEADLINE, GOOD, Reference, Seen
from benchmarks.raw_http import Request, Response
from benchmarks.service_processes import Figures

REQUEST = Request.json("/v1/rerank", {"query": "café", "documents": ["a", "b"]})
OK = Response(200, {}, b"{}")


@pytest.mark.parametrize(
    ("kind", "status", "column"),
    [
        (GOOD, 200, "2xx"),
        ("mutated body", 422, "4xx"),
        (GOOD, 429, "overload"),
        (GOOD, 503, "overload"),
        (DEADLINE, 504, "deadline"),
        (DEADLINE, 424, "deadline"),
        (GOOD, 504, "5xx"),
        ("odd headers", 500, "5xx"),
    ],
)
def test_statuses_are_counted_by_column(kind: str, status: int, column: str) -> None:
    assert mixed.column_of(kind, Response(status, {}, b"")) == column
    assert column in COLUMNS


def test_requests_without_a_response_have_columns() -> None:
    assert mixed.column_of("disconnecting", mixed.LEFT) == "left"
    assert mixed.column_of(GOOD, raw_http.NO_ANSWER) == "no response"
    assert mixed.column_of(GOOD, raw_http.TIMED_OUT) == "no response"


def test_server_errors_and_wrong_scores_are_shown() -> None:
    seen = Seen()
    seen.note(GOOD, REQUEST, OK)
    odd = Request(REQUEST.path, REQUEST.body, {"x-session-id": b"\xe9"})
    seen.note("odd headers", odd, Response(500, {}, b"Internal Server Error"))
    seen.note("wrong type", REQUEST, Response(422, {}, b"{}"))
    seen.note(GOOD, REQUEST, raw_http.NO_ANSWER)
    seen.note_wrong(GOOD, REQUEST, OK)
    assert list(seen.examples) == ["odd headers, x-session-id", GOOD, "wrong scores, good"]
    assert "500" in seen.examples["odd headers, x-session-id"][0]
    table = mixed.table_of_requests(seen).splitlines()
    assert len(table) == 2 + 1 + len(BAD)
    assert table[2] == "| good | 1 | 0 | 0 | 0 | 0 | 1 | 0 | 1 |"
    assert "| odd headers | 0 | 0 | 0 | 0 | 1 | 0 | 0 | - |" in table


def test_processes_have_figures_of_each_sample() -> None:
    def figures(mb: int, descriptors: int) -> Figures:
        return Figures(mb * 10**6, 0, 0, descriptors, 9)

    samples = [
        {1: ("Ingress", figures(100, 40)), 2: ("haproxy", figures(8, 20))},
        {1: ("Ingress", figures(104, 80))},
        {1: ("Ingress", figures(103, 41)), 3: ("haproxy", figures(9, 21))},
    ]
    assert mixed.table_of_processes(samples).splitlines()[2:] == [
        "| Ingress | 100, 104, 103 | 40, 80, 41 | 9, 9, 9 |",
        "| haproxy | 8, -, - | 20, -, - | 9, -, - |",
        "| haproxy | -, -, 9 | -, -, 21 | -, -, 9 |",
    ]


def test_good_requests_have_the_scores_of_their_texts() -> None:
    right = Reference(("q",), ("a", "b", "c"), ((0.1, 0.2, 3.0),), "clamp")
    chance = random.Random(1)
    mixed_up, nim = DIALECTS["native"], DIALECTS["NIM"]
    for dialect, scores in ((mixed_up, (0.1, 0.2, 1.0)), (nim, (0.1, 0.2, 3.0))):
        request, expected = right.request(chance, dialect, most=3)
        sent = orjson.loads(request.body)
        texts = sent.get("documents") or [passage["text"] for passage in sent["passages"]]
        assert expected == [dict(zip("abc", scores, strict=True))[text] for text in texts]


def test_bad_requests_differ_from_the_good_one() -> None:
    chance = random.Random(1)
    for change in CHANGES.values():
        made = [change(chance, REQUEST) for _ in range(200)]
        assert sum(request == REQUEST for request in made) < 20
        assert all(request.head.startswith(request.method.encode()) for request in made)
    empty = Request("/", b"")
    assert [mixed.mutated(chance, empty) for _ in range(50)]
