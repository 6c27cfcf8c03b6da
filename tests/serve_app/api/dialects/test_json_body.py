"""Parsing a request body as JSON."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.api.dialects import Limits, read_json
from serve_app.errors import BodyTooLarge, MalformedBody, UnsupportedMediaType

LIMITS = Limits(max_body_bytes=1000)


@given(raw=st.binary(max_size=200) | st.text(alphabet='{}[]":,\\ud80e1N-', max_size=60))
def test_arbitrary_bytes_parse_to_an_object_or_raise_malformed_body(raw: bytes | str) -> None:
    data = raw if isinstance(raw, bytes) else raw.encode()
    # Any other exception fails the test.
    with contextlib.suppress(MalformedBody):
        assert isinstance(read_json(data, None, LIMITS), dict)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"1",
        b"null",
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a":1e999}',
        b'{"a":"\xff"}',
        b"[" * 100_000,
        b'{"s":"\\ud800","a":NaN}',
        b'{"s":"\\ud800","a":1e999}',
        b'{"s":"\\ud800","a":' + b"[" * 100_000,
    ],
)
def test_malformed_bodies_are_rejected(raw: bytes) -> None:
    with pytest.raises(MalformedBody):
        read_json(raw, None, Limits())


def test_a_byte_order_mark_and_lone_surrogates_are_accepted() -> None:
    assert read_json(b'\xef\xbb\xbf{"a": 1}', None, LIMITS) == {"a": 1}
    assert read_json(b'{"a": "\\ud83d"}', None, LIMITS) == {"a": "\ud83d"}
    many = b'{"a": "\\uD800", "n": ' + b"9" * 30 + b"}"
    assert read_json(many, None, LIMITS)["n"] == pytest.approx(1e30)


@pytest.mark.parametrize(
    "value", [b"[],", b'{"a":1},', b'"",', b"1,", b'"\\\\",', b'"[[[",'], ids=bytes.decode
)
def test_a_body_of_too_many_values_is_rejected_before_it_is_parsed(value: bytes) -> None:
    limits = Limits()
    assert limits.max_values == 1_000_000
    body = b'{"query":"q","x":[%s0]}'
    assert read_json(body % (value * 200_000), None, limits)
    with pytest.raises(BodyTooLarge, match="the maximum is 1000000"):
        read_json(body % (value * 1_100_000), None, limits)


@pytest.mark.parametrize("text", ["[{:,", '\\",[[', '\\\\"', '\\\\\\",,,,'])
def test_punctuation_in_texts_is_not_counted(text: str) -> None:
    raw = json.dumps({"documents": [text * 100_000] * 5}).encode()
    assert read_json(raw, None, Limits())["documents"][4] == text * 100_000


@pytest.mark.parametrize("kind", [None, "", "application/json", "Application/JSON; charset=x"])
def test_accepted_media_types(kind: str | None) -> None:
    assert read_json(b"{}", kind, LIMITS) == {}
    assert read_json(b"{}", "application/vnd.x+json", LIMITS) == {}


@pytest.mark.parametrize("kind", ["text/plain", "application/jsonl", "multipart/form-data"])
def test_other_media_types_are_rejected(kind: str) -> None:
    with pytest.raises(UnsupportedMediaType):
        read_json(b"{}", kind, LIMITS)


def test_a_body_over_the_limit_is_rejected() -> None:
    with pytest.raises(BodyTooLarge):
        read_json(b" " * 1001, None, LIMITS)
