"""The revision of a folder is that of its content, and large files are hashed once."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from models import revision
from models.checkpoint import Checkpoint
from models.revision import cache_folder, folder_revision
from models.types import ModelSpec

DAY_NS = 86_400 * 10**9


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(revision, "_LARGE", 100)
    # As if every file had been written a day ago.
    now = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now() + DAY_NS)
    return tmp_path / "cache"


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are read, in order."""
    names: list[str] = []
    original = revision._hash

    def count(file: Path) -> str:
        names.append(file.name)
        return original(file)

    monkeypatch.setattr(revision, "_hash", count)
    return names


def model(folder: Path, weights: bytes, **more: str) -> Path:
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(weights * 200)
    (folder / "config.json").write_text("{}")
    for name, text in more.items():
        (folder / name.replace("_", ".")).write_text(text)
    for file in folder.iterdir():
        os.utime(file, (0, 0))
    return folder


def stored(folder: Path) -> list[Path]:
    return list(folder.rglob("*.json"))


def test_models_of_the_same_sizes_and_times_have_different_revisions(tmp_path: Path) -> None:
    one, other = model(tmp_path / "one", b"1"), model(tmp_path / "other", b"2")
    copy = model(tmp_path / "copy", b"1")
    assert folder_revision(one) != folder_revision(other)
    assert folder_revision(one) == folder_revision(copy)


def test_files_that_change_the_scores_count_and_others_do_not(tmp_path: Path) -> None:
    folder = model(tmp_path / "m", b"1")
    revisions = [folder_revision(folder)]
    for name in (
        "tokenizer.json",
        "chat_template.jinja",
        "1_Pooling/config.json",
        "2_Dense/config.json",
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("a")
        revisions.append(folder_revision(folder))
    (folder / "1_Pooling" / "config.json").write_text("b")
    revisions.append(folder_revision(folder))
    # The contents of two files change places.
    (folder / "1_Pooling" / "config.json").write_text("a")
    (folder / "2_Dense" / "config.json").write_text("b")
    revisions.append(folder_revision(folder))
    assert len(set(revisions)) == len(revisions)
    for name in ("README.md", "code.py", "checkpoint-5/model.safetensors", "onnx/config.json"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("a")
        assert folder_revision(folder) == revisions[-1], name
    assert folder_revision(folder, code=True) != revisions[-1]


def test_large_files_are_hashed_once(tmp_path: Path, cache: Path, hashed: list[str]) -> None:
    folder = model(tmp_path / "m", b"1")
    first = folder_revision(folder)
    assert sorted(hashed) == ["config.json", "model.safetensors"]
    hashed.clear()
    assert folder_revision(folder) == first
    assert hashed == ["config.json"]
    assert len(stored(cache)) == 1


def test_a_changed_file_is_hashed_again_whatever_its_times(tmp_path: Path) -> None:
    folder = model(tmp_path / "m", b"1")
    first = folder_revision(folder)
    weights = folder / "model.safetensors"
    times = weights.stat()
    time.sleep(0.02)  # file systems' clocks tick every few milliseconds
    weights.write_bytes(b"2" * 200)
    os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns))
    second = folder_revision(folder)
    time.sleep(0.02)
    weights.unlink()
    weights.write_bytes(b"3" * 200)
    os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert len({first, second, folder_revision(folder)}) == 3


@pytest.mark.parametrize(
    ("changed_ns", "reliable"),
    [
        (-DAY_NS + 7, True),
        (-DAY_NS - 10**8, True),
        (-3, False),  # a moment ago
        (10**9, False),  # in the future
    ],
)
def test_a_recent_time_of_change_is_not_relied_on(changed_ns: int, reliable: bool) -> None:
    now = time.time_ns() // 10**9 * 10**9
    assert revision._is_reliable((1, 2, 3, now + changed_ns)) is reliable


def test_a_time_of_change_in_whole_seconds_is_not_relied_on() -> None:
    # Squashed images have such times, and the next one may have the same.
    assert not revision._is_reliable((1, 2, 3, 1_600_000_000 * 10**9))


@pytest.mark.parametrize("content", ["", "[]", '{"model.safetensors": 3}', '{"a": [[1], "x"]}'])
def test_a_damaged_file_of_hashes_is_replaced(
    tmp_path: Path, cache: Path, hashed: list[str], content: str
) -> None:
    folder = model(tmp_path / "m", b"1")
    first = folder_revision(folder)
    place = stored(cache)[0]
    place.write_text(content)
    assert folder_revision(folder) == first
    assert hashed.count("model.safetensors") == 2
    assert folder_revision(folder) == first
    assert hashed.count("model.safetensors") == 2


def test_without_a_cache_folder_files_are_hashed_each_time(
    tmp_path: Path, cache: Path, hashed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = model(tmp_path / "m", b"1")
    cache.write_text("a file, not a folder")
    first = folder_revision(folder)

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", no_home)
    assert folder_revision(folder) == first
    assert hashed.count("model.safetensors") == 2


def test_hashes_of_a_bounded_number_of_folders_are_kept(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revision, "_MAX_KEPT", 2)
    for i in range(4):
        folder_revision(model(tmp_path / f"m{i}", b"1"))
        for file in stored(cache):
            os.utime(file, (i - 10, i - 10))
    assert len(stored(cache)) == 2
    assert cache_folder() == cache / "rerank-serve"


def test_a_checkpoint_is_hashed_in_the_background(tmp_path: Path, hashed: list[str]) -> None:
    folder = model(tmp_path / "m", b"1")
    checkpoint = Checkpoint(ModelSpec("m", source=str(folder)), folder)
    checkpoint.hash_in_background()
    assert checkpoint.revision == folder_revision(folder)
    assert hashed.count("model.safetensors") == 1
