"""The key file, reloaded while the service runs."""

from __future__ import annotations

import os
import time
from pathlib import Path
from unittest.mock import Mock

import pytest

from serve_app.access import KeyRing, KeysError, keyring
from serve_app.access.keyring import MAX_FILE_BYTES
from tests.serve_app.fakes import Clock

SECRET = "correct-horse-battery"


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


def test_a_file_that_could_not_be_read_for_a_moment_is_read_later(
    file: File, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write(b"the-next-key name=b")
    with monkeypatch.context() as patch:
        patch.setattr(
            keyring, "_not_blocking", Mock(side_effect=OSError(24, "Too many open files"))
        )
        assert file.names() == {"env", "a"}
    assert file.names() == {"env", "b"}


def test_a_key_of_the_same_length_and_time_replaces_the_old_one(file: File) -> None:
    before = file.path.stat()
    content = file.path.read_bytes().replace(b"correct", b"another")
    time.sleep(0.02)  # file systems' clocks tick every few milliseconds
    file.path.write_bytes(content)
    os.utime(file.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.names() == {"env", "a"}
    assert file.ring.keys().find([SECRET.encode()]) is None


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
