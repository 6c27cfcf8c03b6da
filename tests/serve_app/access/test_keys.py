"""Lines of keys and sets of keys."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.access import Key, KeysError, KeySet, new_key, parse_entry
from serve_app.access.keys import MAX_KEYS, digest_of, hashed, parse_entries

SECRET = "correct-horse-battery"
HEX = hashlib.sha256(SECRET.encode()).hexdigest()


def test_a_plain_key_and_its_hash_parse_to_the_same_key() -> None:
    plain = parse_entry(f"{SECRET} name=search rpm=60 tpm=0", "line-1")
    assert plain == parse_entry(
        f"  SHA256:{HEX.upper()}\ttpm=0 rpm=60 name=search # ours", "line-9"
    )
    assert plain == Key(bytes.fromhex(HEX), "search", 60, 0)
    assert plain.line() == f"sha256:{HEX} name=search rpm=60 tpm=0"
    assert parse_entry(SECRET, "line-4") == Key(bytes.fromhex(HEX), "line-4")


def test_a_key_may_be_an_operators() -> None:
    operator = parse_entry(f"{SECRET} role=operator name=ops", "line-1")
    assert operator == Key(bytes.fromhex(HEX), "ops", operator=True)
    assert operator.line() == f"sha256:{HEX} name=ops role=operator"
    assert parse_entry(f"{SECRET} role=client", "line-1") == parse_entry(SECRET, "line-1")
    with pytest.raises(KeysError, match="different limits or roles"):
        KeySet(parse_entries(["a name=a role=operator", "b name=a"], "line"))


@pytest.mark.parametrize("text", ["", "  \t", "# a comment", "#key"])
def test_blank_lines_and_comments_have_no_key(text: str) -> None:
    assert parse_entry(text, "line-1") is None


@pytest.mark.parametrize(
    "text",
    [
        "two words",
        f"{SECRET} name=a name=b",
        f"{SECRET} name=",
        f"{SECRET} name=a,b",
        f"{SECRET} name={'a' * 65}",
        f"{SECRET} name=anonymous",
        f"{SECRET} name=line-3",
        f"{SECRET} rpm=-1",
        f"{SECRET} rpm=1.5",
        f"{SECRET} rpm=٣",
        f"{SECRET} rpm={10**13}",
        f"{SECRET} limit=3",
        f"{SECRET} role=root",
        f"{SECRET} role=",
        "sha256:abc",
        f"sha256:{HEX}0",
        "clé",
        "nul\0",
        "k" * 1025,
    ],
)
def test_invalid_lines_are_rejected_without_showing_the_key(text: str) -> None:
    with pytest.raises(KeysError, match="line-7") as caught:
        parse_entry(text, "line-7")
    assert text.split()[0] not in str(caught.value)


@given(st.text(max_size=80))
def test_any_line_is_a_key_or_no_key_or_rejected(text: str) -> None:
    try:
        key = parse_entry(text, "line-1")
    except KeysError:
        return
    if key is not None:
        assert parse_entry(key.line(), "line-1") == key
        assert hashed([text]) == (key.line(),)


def test_contradictory_or_too_many_keys_are_rejected() -> None:
    assert (
        len(KeySet(parse_entries([f"{SECRET} name=a", "b name=a", f"{SECRET} name=a"], "x"))) == 2
    )
    with pytest.raises(KeysError, match="the same key"):
        KeySet(parse_entries([f"{SECRET} name=a", f"{SECRET} name=b"], "line"))
    with pytest.raises(KeysError, match="different limits"):
        KeySet(parse_entries(["a name=a rpm=1", "b name=a rpm=2"], "line"))
    with pytest.raises(KeysError, match="maximum is 1000"):
        KeySet([Key(digest_of(b"%d" % i), f"k{i}") for i in range(MAX_KEYS + 1)])


def test_new_keys_are_unique_and_valid() -> None:
    made = {new_key() for _ in range(50)}
    assert len(made) == 50
    for key in made:
        parsed = parse_entry(key, "line-1")
        assert parsed is not None
        assert parsed.digest == digest_of(key.encode())
