"""The examples of docs/evaluation.md run as they stand, with the embedded model."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from models import embedded
from serve_app.cli import main
from tests.serve_app.evaluate import data
from tests.serve_app.evaluate.data import oracle, service

PAGE = Path(__file__).parents[3] / "docs" / "evaluation.md"
BLOCK = re.compile(r"^```(sh|json)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
# These need a service at its usual port, or read every installed package.
ELSEWHERE = (["rerank", "eval"], ["rerank", "eval", "--model", "embedded", "--limit", "20"])


def _blocks(kind: str) -> str:
    return "".join(text for name, text in BLOCK.findall(PAGE.read_text()) if name == kind)


def _commands() -> list[list[str]]:
    lines = _blocks("sh").replace("\\\n", " ").splitlines()
    return [
        words
        for line in lines
        if (words := shlex.split(line, comments=True))[:1] == ["rerank"] and words not in ELSEWHERE
    ]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files that the page speaks of."""
    monkeypatch.chdir(tmp_path)
    # Ready sooner: nothing is compiled, and no budget is searched for.
    monkeypatch.setenv("RERANKER_BACKEND", "torch")
    monkeypatch.setenv("RERANKER_TOKEN_BUDGET", "2048")
    data.trec(tmp_path)
    data.beir(tmp_path / "scifact")
    (tmp_path / "dense.run").write_text((tmp_path / "first.run").read_text())
    (tmp_path / "my-model").symlink_to(embedded.folder())
    samples = [json.loads(line) for line in _blocks("json").splitlines()]
    # The first form has no first stage's order, which the last example compares with.
    data.jsonl(tmp_path / "samples.jsonl.gz", samples[1:])
    data.jsonl(tmp_path / "every.jsonl", samples)
    return tmp_path


def test_the_examples(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    commands = _commands()
    assert len(commands) == 6
    with service(oracle) as url:
        for words in commands:
            given = [url if word == "http://127.0.0.1:8000" else word for word in words]
            assert main.main(given[1:]) == 0, (words, capsys.readouterr().err)
    shown = capsys.readouterr().out
    assert "scifact (test): 8 queries, 8 documents" in shown
    assert "against as given" in shown
    assert (folder / "scifact.png").is_file()
    assert {path.name for path in (folder / "runs").iterdir()} == {
        "first.run",
        "all-MiniLM-L6-v2-maxsim.run",
    }


def test_every_form_of_the_page(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["eval", "--jsonl", "every.jsonl", "--model", "embedded", "--json"]
    assert main.main(words) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["queries"] == 4
    bm25, model = report["rows"]
    assert (bm25["name"], model["name"]) == ("BM25", "all-MiniLM-L6-v2-maxsim")
    assert model["measures"]["P@1"]["mean"] == 1.0
    assert model["tokens"] > model["pairs"] == 8
