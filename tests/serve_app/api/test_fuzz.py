"""Bodies and headers that nobody should send: each is answered, in the format's own shape."""

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
# However strange a body of this size is, it does not take longer than a busy machine's pauses.
SLOWEST_S = 5.0
PATHS = {route: route.replace("{model:path}", "m") for route in ROUTES}
FUZZED = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
DEEP = 100_000

# JSON as text, since much of it is what no library writes.
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


def _shape(answer: httpx.Response, route: str) -> None:
    """The answer to a bad request has the fields of an error of one of the route's formats."""
    assert answer.headers["content-type"] == "application/json", answer.text[:300]
    content = answer.json()
    shapes = [orjson.loads(d.error(InvalidRequest("x"), "id")) for d in ROUTES[route].dialects]
    assert any(set(content) == set(shape) for shape in shapes), content
    assert "Traceback" not in answer.text


async def _send(route: str, body: bytes, headers: Mapping[str, str]) -> httpx.Response:
    front = FakeFrontend(limits=LIMITS)
    started = time.perf_counter()
    async with front.client() as client:
        named = {"content-type": "application/json", **headers}
        sent = [(name.encode(), value.encode("latin-1")) for name, value in named.items()]
        answer = await client.post(PATHS[route], content=body, headers=sent)
    assert time.perf_counter() - started < SLOWEST_S
    assert front.in_flight == 0
    return answer


def _check(route: str, body: bytes, headers: Mapping[str, str] | None = None) -> None:
    answer = asyncio.run(_send(route, body, headers or {}))
    assert answer.status_code < 500, (body[:300], answer.text[:300])
    if answer.status_code != 200:
        _shape(answer, route)
    else:
        answer.json()


@pytest.mark.parametrize("route", ROUTES)
@given(data=st.data())
@FUZZED
def test_random_bytes_and_json(route: str, data: st.DataObject) -> None:
    text = json_values.map(lambda value: json.dumps(value).encode("utf-8", "surrogatepass"))
    body = data.draw(st.binary(max_size=60) | text)
    _check(route, body, data.draw(st.sampled_from(HEADERS)))


def _whole(route: str) -> list[dict[str, Any]]:
    """Right bodies, one for each format of the route where an example is of it."""
    found = []
    for body in REQUESTS.values():
        answer = asyncio.run(_send(route, orjson.dumps(body), {}))
        if answer.status_code == 200:
            found.append(dict(body))
    return found


@pytest.mark.parametrize("route", ROUTES)
def test_right_bodies_with_something_wrong(route: str) -> None:
    """Every odd value in fields of right bodies: in place of one, beside them, and inside."""
    whole = _whole(route)
    assert whole
    chance = random.Random(route)
    for odd in ODD:
        for name in chance.sample(FIELDS, 5):
            body = chance.choice(whole)
            parts = [f"{json.dumps(k)}:{json.dumps(v)}" for k, v in body.items() if k != name]
            parts.insert(chance.randrange(len(parts) + 1), f"{json.dumps(name)}:{odd}")
            _check(route, ("{" + ",".join(parts) + "}").encode())
        # A field twice, and the odd value as an entry of every list.
        text = json.dumps(chance.choice(whole))
        _check(route, text.replace("[", f"[{odd},").encode())
        _check(route, (text[:-1] + f',"query":{odd}}}').encode())


@pytest.mark.parametrize("route", ROUTES)
@given(data=st.data())
@FUZZED
def test_right_bodies_with_bytes_cut_or_changed(route: str, data: st.DataObject) -> None:
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
def test_coded_bodies(data: st.DataObject) -> None:
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


def test_small_bodies_that_unpack_to_much_are_refused_soon() -> None:
    bombs = {
        "gzip": gzip.compress(b" " * 10**8),
        "zstd": zstandard.ZstdCompressor().compress(b" " * 10**8),
    }
    for name, bomb in bombs.items():
        answer = asyncio.run(_send("/rerank", bomb[:100_000], {"content-encoding": name}))
        assert answer.status_code in (400, 413)
