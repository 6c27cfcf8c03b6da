"""The headers that carry a key."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.access import KeySet
from serve_app.access.credentials import HEADERS, MAX_CANDIDATES, candidates, is_key_like
from serve_app.access.keys import parse_entries

SECRET = "correct-horse-battery"


@given(st.lists(st.tuples(st.sampled_from([*HEADERS, b"X-API-Key", b"cookie"]), st.binary())))
def test_any_headers_give_a_limited_number_of_candidates(
    headers: list[tuple[bytes, bytes]],
) -> None:
    found = candidates(headers)
    assert len(found) == len(set(found)) <= MAX_CANDIDATES
    assert all(found)
    assert KeySet(parse_entries([SECRET], "env")).find(filter(is_key_like, found)) is None


@given(
    scheme=st.sampled_from(["Bearer ", "bearer\t ", "BEARER ", "Token ", "ApiKey ", ""]),
    name=st.sampled_from([b"Authorization", b"authorization"]),
    key=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=9, max_size=90),
)
def test_the_key_is_found_with_every_scheme(scheme: str, name: bytes, key: str) -> None:
    assert candidates([(name, f" {scheme}{key} ".encode())]) == [key.encode()]


@pytest.mark.parametrize(
    "value", [b"", b" ", b"Bearer", b"bearer ", b"Token", b"Basic dXNlcjpwYXNz", b"Digest a=b, c=d"]
)
def test_headers_without_a_key_give_no_candidate(value: bytes) -> None:
    assert candidates([(b"authorization", value)]) == []


def test_values_that_cannot_be_a_key_are_ruled_out() -> None:
    assert not is_key_like(b"k" * 100_000)
    assert not is_key_like(b"two words")
    assert is_key_like("schlüssel".encode())


def test_a_key_is_found_beside_a_gateways_credentials() -> None:
    sent = [(b"authorization", b"Bearer theirs"), (b"X-API-KEY", SECRET.encode())]
    found = KeySet(parse_entries([SECRET], "env")).find(candidates(sent))
    assert found is not None
    assert found.name == "env-1"
