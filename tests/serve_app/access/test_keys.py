"""Lines of keys, the key file, and the headers that carry a key."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.access import Key, KeyRing, KeysError, KeySet, new_key, parse_entry
from serve_app.access.credentials import HEADERS, MAX_CANDIDATES, candidates, is_key_like
from serve_app.access.keyring import MAX_FILE_BYTES
from serve_app.access.keys import MAX_KEYS, digest_of, hashed, parse_entries
from tests.serve_app.fakes import Clock

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


class File:
    """A key file, read through a key ring with a manual clock."""

    def __init__(self, path: Path, content: bytes) -> None:
        self.path, self.clock = path, Clock()
        path.write_bytes(content)
        self.ring = KeyRing(["from-the-environment name=env"], str(path), self.clock)

    def write(self, content: bytes) -> None:
        # Replaces the file, as editors and Kubernetes do.
        new = self.path.with_suffix(".new")
        new.write_bytes(content)
        os.replace(new, self.path)

    def names(self, seconds: float = 1.0) -> set[str]:
        self.clock.now += seconds
        return set(self.ring.keys().names)


@pytest.fixture
def file(tmp_path: Path) -> File:
    return File(tmp_path / "keys.txt", f"# ours\r\n\r\n{SECRET} name=a\r\n".encode())


def test_a_changed_file_is_reloaded_at_most_once_a_second(file: File) -> None:
    assert file.names() == {"env", "a"}
    file.write(b"\xef\xbb\xbfother-key name=b")
    assert file.names(0.5) == {"env", "a"}
    assert file.names(0.5) == {"env", "b"}
    assert file.ring.keys().find([SECRET.encode()]) is None
    file.write(b"# nobody\n")
    assert file.names() == {"env"}


@pytest.mark.parametrize(
    "content",
    [b"two words", b"\xff\xfe\x00", b"a name=x\nb name=x rpm=3", b"k" * (MAX_FILE_BYTES + 1)],
    ids=["words", "not utf-8", "contradiction", "large"],
)
def test_an_invalid_file_keeps_the_current_keys_and_is_logged_once(
    file: File, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    file.write(content)
    for _ in range(3):
        assert file.names() == {"env", "a"}
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert "keeping the current ones" in record.getMessage()
    file.write(b"good-again name=c")
    assert file.names() == {"env", "c"}


def test_a_deleted_file_keeps_the_current_keys_until_it_is_back(file: File) -> None:
    file.path.unlink()
    assert file.names() == {"env", "a"}
    file.write(b"back-again name=d")
    assert file.names() == {"env", "d"}


def test_a_pipe_in_place_of_the_file_does_not_block(file: File) -> None:
    file.path.unlink()
    os.mkfifo(file.path)
    assert file.names() == {"env", "a"}


@pytest.mark.parametrize("kind", ["missing", "folder", "empty", "broken", "pipe"])
def test_loading_an_invalid_file_is_an_error(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "keys.txt"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind != "missing":
        path.write_text("" if kind == "empty" else "a b c")
    with pytest.raises(KeysError, match="no key" if kind == "empty" else "keys.txt"):
        KeyRing([], str(path))


def test_an_unreadable_file_is_an_error_at_first_and_keeps_the_keys_later(
    file: File, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr("serve_app.access.keyring.os.open", refuse)
        with pytest.raises(KeysError, match="Permission denied"):
            KeyRing([], str(file.path))
        file.path.touch()
        assert file.names() == {"env", "a"}
