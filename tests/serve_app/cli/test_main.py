"""The commands `rerank score` and `rerank key`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from serve_app.cli.main import main
from serve_app.deployments.exposure import ring_of
from serve_app.settings import load

COHERE = {"name": "cohere", "provider": "cohere", "model": "rerank-v3.5"}


def test_the_score_command_rejects_a_remote_model(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("RERANKER_MODELS", json.dumps([COHERE]))
    (tmp_path / "docs.txt").write_text("a document")
    assert main(["score", "a query", str(tmp_path / "docs.txt")]) == 1
    assert "cohere is a remote model" in capsys.readouterr().err


def test_the_key_command_prints_a_key_and_its_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["key", "--name", "search", "--rpm", "60", "--tpm", "0"]) == 0
    shown = capsys.readouterr()
    key = shown.err.split()[-1]
    assert key.startswith("rk_")
    assert key not in shown.out
    assert shown.out.endswith(" name=search rpm=60 tpm=0\n")
    (tmp_path / "keys").write_text(shown.out)
    ring = ring_of(load({"api_keys_file": str(tmp_path / "keys")}, {}))
    assert ring is not None
    assert ring.keys().find([key.encode()]) is not None
    assert main(["key", "--name", "two words"]) == 1
    assert main(["key"]) == 0
    assert len(capsys.readouterr().out.split()) == 1
