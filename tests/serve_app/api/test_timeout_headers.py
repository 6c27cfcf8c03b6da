"""Timeout headers from clients and proxies."""

from __future__ import annotations

import pytest

from serve_app.api.timeout_headers import timeout_s
from serve_app.errors import InvalidRequest


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"x-request-timeout-ms": "1500"}, 1.5),
        ({"grpc-timeout": "100m"}, 0.1),
        ({"grpc-timeout": "2S", "x-request-timeout-ms": "300"}, 0.3),
        ({"x-envoy-expected-rq-timeout-ms": "250"}, 0.25),
        ({"x-envoy-expected-rq-timeout-ms": "0", "grpc-timeout": "soon"}, None),
        ({"x-stainless-read-timeout": "60.0"}, 60.0),
        ({"x-stainless-read-timeout": "not-given"}, None),
    ],
)
def test_the_shortest_timeout_of_the_headers_is_used(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert timeout_s(headers) == (seconds if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize("text", ["", "0", "-1", "nan", "1e3", "٣", "9" * 30, "soon"])
def test_an_invalid_value_of_our_own_header_is_rejected(text: str) -> None:
    with pytest.raises(InvalidRequest, match="x-request-timeout-ms"):
        timeout_s({"x-request-timeout-ms": text})
