"""Converted models are kept, found again, and made again if they cannot be read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from models.checkpoint import Checkpoint
from models.engines.conversions import MODEL, Conversions
from models.registry import load
from models.types import ModelSpec
from tests.models.checkpoints import tiny_bert_cross_encoder

QUERY, TEXTS = "what do pandas eat?", ["bamboo", "", "a ship at sea " * 30]


def _logits(source: Path, folder: Path, dtype: str = "float32") -> list[float]:
    spec = ModelSpec(
        "m",
        source=str(source),
        backend="openvino",
        dtype=dtype,  # type: ignore[arg-type]
        conversions=str(folder),
    )
    return [score.logit for score in load(spec).score(QUERY, TEXTS)]


def _kept(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def test_a_second_start_reads_no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, folder = tiny_bert_cross_encoder(tmp_path / "model"), tmp_path / "kept"
    first = _logits(source, folder)
    assert len(_kept(folder)) == 1

    def refuse(*args: object, **options: object) -> None:
        raise AssertionError("the weights are read again")

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "module", refuse)
        assert _logits(source, folder) == first
        with pytest.raises(Exception, match="could not be converted"):
            _logits(source, folder, "bfloat16")  # another precision needs another conversion


def test_changed_weights_are_converted_again(tmp_path: Path) -> None:
    source, folder = tiny_bert_cross_encoder(tmp_path / "model"), tmp_path / "kept"
    _logits(source, folder)
    weights = next(source.glob("*.safetensors"))
    before = weights.stat()
    other = tiny_bert_cross_encoder(tmp_path / "other", seed=1)
    weights.write_bytes(next(other.glob("*.safetensors")).read_bytes())
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert weights.stat().st_size == before.st_size
    assert _logits(source, folder) == _logits(other, tmp_path / "kept elsewhere")
    assert len(_kept(folder)) == 2


def test_an_unreadable_conversion_is_made_again(
    tmp_path: Path, serve_log: pytest.LogCaptureFixture
) -> None:
    source, folder = tiny_bert_cross_encoder(tmp_path / "model"), tmp_path / "kept"
    first = _logits(source, folder)
    (place,) = _kept(folder)
    (place / MODEL).write_text("<broken")
    assert _logits(source, folder) == first
    assert "cannot read the converted model" in serve_log.text
    assert _logits(source, folder) == first


def test_a_folder_that_cannot_be_written_does_not_prevent_loading(tmp_path: Path) -> None:
    source = tiny_bert_cross_encoder(tmp_path / "model")
    (tmp_path / "kept").write_text("a file, not a folder")
    assert len(_logits(source, tmp_path / "kept")) == len(TEXTS)


def test_the_least_recently_read_conversions_are_deleted(tmp_path: Path) -> None:
    kept = Conversions(tmp_path, max_bytes=250)
    for number, name in enumerate("abc"):
        kept.write(name, lambda path: path.write_bytes(b"x" * 100) and None)
        os.utime(tmp_path / name, (number, number))
    assert [place.name for place in _kept(tmp_path)] == ["b", "c"]
    assert kept.read("b", Path.read_bytes) == b"x" * 100  # and so it is the newest
    kept.write("d", lambda path: path.write_bytes(b"x" * 300) and None)
    assert [place.name for place in _kept(tmp_path)] == ["d"]
    assert kept.read("a", Path.read_bytes) is None


def test_two_processes_may_write_the_same_conversion(tmp_path: Path) -> None:
    kept = Conversions(tmp_path)
    for content in (b"first", b"second"):
        kept.write("k", lambda path, content=content: path.write_bytes(content) and None)  # type: ignore[misc]
    assert kept.read("k", Path.read_bytes) in (b"first", b"second")
    assert [place.name for place in _kept(tmp_path)] == ["k"]


def test_what_a_killed_process_left_is_deleted(tmp_path: Path) -> None:
    left, running = tmp_path / ".new-left", tmp_path / ".new-running"
    for place in (left, running):
        place.mkdir()
        (place / MODEL).write_bytes(b"half")
    os.utime(left, (0, 0))
    Conversions(tmp_path).write("k", lambda path: path.write_bytes(b"x") and None)
    assert [place.name for place in _kept(tmp_path)] == [".new-running", "k"]
