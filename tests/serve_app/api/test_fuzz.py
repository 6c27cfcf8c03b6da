"""Malformed bodies and headers get an error response in the shape of the format."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import time
from collections.abc import Mapping
from typing import Any

import httpx
import orjson
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serve_app.api.dialects import ROUTES, Limits
from serve_app.api.openapi.examples import REQUESTS
from serve_app.errors import InvalidRequest
from tests.serve_app.fakes import FakeFrontend

LIMITS = Limits(max_documents=50, max_body_bytes=200_000)
# CPU time that no body of this size may take: time on the clock depends on the other load.
SLOWEST_S = 5.0
PATHS = {route: route.replace("{model:path}", "m") for route in ROUTES}
FUZZED = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
DEEP = 100_000

# Written as text, since no library would produce most of it.
ODD = (
    "NaN",
    "-Infinity",
    "1e999",
    "-0.0",
    "9" * 400,
    "-" + "9" * 5000,
    '"\\ud800"',
    '"\\udc00\\ud800"',
    '"\\u0000"',
    '"' + "\U0001f43c" * 2000 + '"',
    '"' + "x" * 150_000 + '"',
    "[" * 5000 + "]" * 5000,
    '{"a":' * 5000 + "1" + "}" * 5000,
    "[" * DEEP,
    "[[]]",
    "{}",
    "null",
    "true",
    '""',
    "[null]",
    '[""]',
    '[{"text":null}]',
    '[{"text":"a","text":"b"}]',
    '[{"image":"data:image/png;base64,AAAA"}]',
    '[{"":{"":""}}]',
    "[" + "0," * 40_000 + "0]",
)
FIELDS = sorted(
    {name for body in REQUESTS.values() for name in body}
    | {
        *("rank_fields", "priority", "relevant_spans", "explain", "truncate", "truncation"),
        *("return_documents", "top_k", "max_tokens_per_doc", "long_document", "instruction"),
        *("raw_scores", "sort", "max_chunks_per_doc", "query_image_url", "return_text"),
        *("text_1", "text_2", "queries", "items", "data_1", "data_2", "passages", "input", "texts"),
    }
)
HEADERS = (
    {},
    {"content-encoding": "gzip"},
    {"content-encoding": "zstd"},
    {"content-encoding": "br, gzip"},
    {"content-type": "text/plain"},
    {"content-type": 'application/json; charset="'},
    {"content-length": "9" * 30},
    {"content-length": "-1"},
    {"content-length": "²"},
    {"content-length": "9" * 5000},
    {"accept-encoding": "gzip;q=nan, zstd;q=1e400, *;q="},
    {"authorization": "Bearer " + "x" * 5000},
    {"x-request-id": "\x7f" * 20},
    {"x-request-id": "x" * 5000},
    {"x-request-timeout-ms": "1e9"},
    {"grpc-timeout": "99999999H"},
    {"x-envoy-expected-rq-timeout-ms": "-5"},
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)


def _check_error_shape(answer: httpx.Response, route: str) -> None:
    """Check that the response has the fields of an error in one of the route's formats."""
    assert answer.headers["content-type"] == "application/json", answer.text[:300]
    content = answer.json()
    shapes = [orjson.loads(d.error(InvalidRequest("x"), "id")) for d in ROUTES[route].dialects]
    assert any(set(content) == set(shape) for shape in shapes), content
    assert "Traceback" not in answer.text


async def _send(route: str, body: bytes, headers: Mapping[str, str]) -> httpx.Response:
    front = FakeFrontend(limits=LIMITS)
    started = time.process_time()
    async with front.client() as client:
        named = {"content-type": "application/json", **headers}
        sent = [(name.encode(), value.encode("latin-1")) for name, value in named.items()]
        answer = await client.post(PATHS[route], content=body, headers=sent)
    assert time.process_time() - started < SLOWEST_S
    assert front.in_flight == 0
    return answer


def _check(route: str, body: bytes, headers: Mapping[str, str] | None = None) -> None:
    answer = asyncio.run(_send(route, body, headers or {}))
    assert answer.status_code < 500, (body[:300], answer.text[:300])
    if answer.status_code != 200:
        _check_error_shape(answer, route)
    else:
        answer.json()


@pytest.mark.parametrize("route", ROUTES)
@given(data=st.data())
@FUZZED
def test_random_bytes_and_random_json(route: str, data: st.DataObject) -> None:
    text = json_values.map(lambda value: json.dumps(value).encode("utf-8", "surrogatepass"))
    body = data.draw(st.binary(max_size=60) | text)
    _check(route, body, data.draw(st.sampled_from(HEADERS)))


def _valid_bodies(route: str) -> list[dict[str, Any]]:
    """Return the example bodies that are valid on the route."""
    found = []
    for body in REQUESTS.values():
        answer = asyncio.run(_send(route, orjson.dumps(body), {}))
        if answer.status_code == 200:
            found.append(dict(body))
    return found


@pytest.mark.parametrize("route", ROUTES)
def test_valid_bodies_with_an_odd_value(route: str) -> None:
    """Put every odd value into valid bodies: as a field, an additional field and a list entry."""
    valid = _valid_bodies(route)
    assert valid
    chance = random.Random(route)
    for odd in ODD:
        for name in chance.sample(FIELDS, 5):
            body = chance.choice(valid)
            parts = [f"{json.dumps(k)}:{json.dumps(v)}" for k, v in body.items() if k != name]
            parts.insert(chance.randrange(len(parts) + 1), f"{json.dumps(name)}:{odd}")
            _check(route, ("{" + ",".join(parts) + "}").encode())
        # The odd value as an entry of every list, and a duplicate field.
        text = json.dumps(chance.choice(valid))
        _check(route, text.replace("[", f"[{odd},").encode())
        _check(route, (text[:-1] + f',"query":{odd}}}').encode())


@pytest.mark.parametrize("route", ROUTES)
@given(data=st.data())
@FUZZED
def test_valid_bodies_with_changed_or_missing_bytes(route: str, data: st.DataObject) -> None:
    body = bytearray(orjson.dumps(data.draw(st.sampled_from(sorted(REQUESTS.values(), key=str)))))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(body) - 1))
        kind = data.draw(st.integers(0, 2))
        if kind == 0:
            body[at] = data.draw(st.integers(0, 255))
        elif kind == 1 and len(body) > 10:
            del body[at : at + data.draw(st.integers(1, 8))]
        else:
            body[at:at] = data.draw(st.binary(min_size=1, max_size=6))
        if not body:
            break
    _check(route, bytes(body))


@given(data=st.data())
@FUZZED
def test_damaged_compressed_bodies(data: st.DataObject) -> None:
    name, pack = data.draw(
        st.sampled_from((("gzip", gzip.compress), ("zstd", zstandard.ZstdCompressor().compress)))
    )
    plain = data.draw(st.sampled_from((b"", b"{}", orjson.dumps(REQUESTS["Native"]), b" " * 10**6)))
    body = bytearray(pack(plain))
    for _ in range(data.draw(st.integers(0, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] ^= data.draw(st.integers(1, 255))
    cut = data.draw(st.integers(0, len(body)))
    many = data.draw(st.integers(1, 3))
    _check("/rerank", bytes(body[:cut]) * many, {"content-encoding": name})


def test_decompression_bombs_are_rejected_quickly() -> None:
    bombs = {
        "gzip": gzip.compress(b" " * 10**8),
        "zstd": zstandard.ZstdCompressor().compress(b" " * 10**8),
    }
    for name, bomb in bombs.items():
        answer = asyncio.run(_send("/rerank", bomb[:100_000], {"content-encoding": name}))
        assert answer.status_code in (400, 413)
