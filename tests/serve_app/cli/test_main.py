"""The commands `rerank score` and `rerank key`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from serve_app.cli.main import main
from serve_app.deployments.exposure import ring_of
from serve_app.settings import load
from tests.local_server import QuietHandler, serving

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
    assert main(["key", "--operator"]) == 0
    assert capsys.readouterr().out.endswith(" role=operator\n")
    assert main(["key", "--name", "two words"]) == 1
    assert main(["key"]) == 0
    assert len(capsys.readouterr().out.split()) == 1


class Guarded(QuietHandler):
    """A service with keys: /health has details for the operator only."""

    def do_GET(self) -> None:
        details = {"traffic": "HAProxy", "models": {}, "pipelines": {}}
        queue = {"active": 1, "max_parallel": 64, "waiting": 2}
        operator = self.headers["authorization"] == "Bearer ops"
        health = {"status": "ok", **({"controller": queue, **details} if operator else {})}
        self.send(200, json.dumps(health).encode())


def test_the_status_command_shows_details_with_an_operators_key(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(Guarded) as url:
        monkeypatch.setenv("PORT", url.rsplit(":", 1)[1])
        monkeypatch.delenv("RERANK_API_KEY", raising=False)
        assert main(["status"]) == 0
        assert "rerank key --operator" in capsys.readouterr().out
        monkeypatch.setenv("RERANK_API_KEY", "ops")
        assert main(["status"]) == 0
        assert "active 1/64, waiting 2" in capsys.readouterr().out
