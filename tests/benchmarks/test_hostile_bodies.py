"""`benchmarks.hostile_bodies`, the corpus of requests that cost more than their size."""

from __future__ import annotations

import pytest

from benchmarks.hostile_bodies import CASES, READ_HEADERS, Sending
from serve_app.api.dialects import Limits
from serve_app.api.dialects.routes import ROUTES


@pytest.mark.parametrize("name", CASES)
def test_a_case_is_a_request_that_the_service_reads(name: str) -> None:
    case = CASES[name]
    request = case.make()
    assert case.about
    assert request.path in ROUTES
    assert 0 < len(request.body) <= Limits().max_body_bytes
    assert request.head.endswith(b"\r\n\r\n")


def test_slow_cases_have_many_copies() -> None:
    slow = [case for case in CASES.values() if case.sending is not Sending.WHOLE]
    assert len(slow) == 3
    assert all(case.copies > 50 for case in slow)


def test_queries_stay_under_the_maximum() -> None:
    limit = Limits().max_query_chars
    for name in ("marks-query", "long-query", "long-pair"):
        body = CASES[name].make().body.decode()
        query = body.partition('"query":"')[2].partition('"')[0]
        assert limit * 0.8 < len(query) <= limit, name


def test_header_cases_have_a_byte_above_127() -> None:
    for name in READ_HEADERS:
        assert CASES[f"byte-in-{name}"].make().headers[name].decode("latin-1")[-1] == "é"
