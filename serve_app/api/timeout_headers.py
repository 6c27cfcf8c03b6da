"""Headers in which clients and proxies say how long they wait for a response."""

from __future__ import annotations

import re
from collections.abc import Mapping

from serve_app.errors import InvalidRequest

HEADER = "x-request-timeout-ms"
# The largest accepted value.
MAX_TIMEOUT_MS = 24 * 3600 * 1000
# https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md: eight digits and a unit.
_GRPC = re.compile(r"(\d{1,8})([HMSmun])", re.ASCII)
_GRPC_UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_NUMBER = re.compile(r"\d{1,12}(?:\.\d{1,6})?", re.ASCII)
# Sent by proxies and SDKs on their own: header to its unit in seconds.
_OTHERS = {
    "x-envoy-expected-rq-timeout-ms": 1e-3,
    "x-stainless-read-timeout": 1.0,
}


def timeout_s(headers: Mapping[str, str]) -> float | None:
    """The number of seconds that the client or its proxy waits: the smallest of the headers.

    Raises InvalidRequest if this service's own header is invalid; invalid others are ignored.
    """
    found = [own] if (own := _own(headers.get(HEADER))) is not None else []
    if match := _GRPC.fullmatch(headers.get("grpc-timeout", "")):
        found.append(int(match[1]) * _GRPC_UNITS[match[2]])
    for name, unit in _OTHERS.items():
        # In these headers, zero means no limit.
        if _NUMBER.fullmatch(text := headers.get(name, "")) and float(text) > 0:
            found.append(float(text) * unit)
    return min(found, default=None)


def _own(text: str | None) -> float | None:
    if text is None:
        return None
    if not _NUMBER.fullmatch(text) or not 0 < float(text) <= MAX_TIMEOUT_MS:
        raise InvalidRequest(
            f"the header {HEADER} must be a number of milliseconds above 0 and at most "
            f"{MAX_TIMEOUT_MS}",
            param=HEADER,
        )
    return float(text) / 1000
