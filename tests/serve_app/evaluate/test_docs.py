"""The examples in docs/evaluation.md run unchanged, with the embedded model."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from models import embedded
from serve_app.cli.main import main
from tests.serve_app.evaluate import data
from tests.serve_app.evaluate.data import oracle, service

PAGE = Path(__file__).parents[3] / "docs" / "evaluation.md"
BLOCK = re.compile(r"^```(sh|json)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
# These need a service at its default port, or read every installed package.
SKIPPED = (["rerank", "eval"], ["rerank", "eval", "--model", "embedded", "--limit", "20"])


def _blocks(kind: str) -> str:
    return "".join(text for name, text in BLOCK.findall(PAGE.read_text()) if name == kind)


def _commands() -> list[list[str]]:
    lines = _blocks("sh").replace("\\\n", " ").splitlines()
    return [
        words
        for line in lines
        if (words := shlex.split(line, comments=True))[:1] == ["rerank"] and words not in SKIPPED
    ]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the files that the page refers to."""
    monkeypatch.chdir(tmp_path)
    # For a faster start: no compilation and no search for the token budget.
    monkeypatch.setenv("RERANKER_BACKEND", "torch")
    monkeypatch.setenv("RERANKER_TOKEN_BUDGET", "2048")
    data.trec(tmp_path)
    data.beir(tmp_path / "scifact")
    (tmp_path / "dense.run").write_text((tmp_path / "first.run").read_text())
    (tmp_path / "my-model").symlink_to(embedded.folder())
    samples = [json.loads(line) for line in _blocks("json").splitlines()]
    # Without the first form, which is unordered: the last example needs the row "as given".
    data.jsonl(tmp_path / "samples.jsonl.gz", samples[1:])
    data.jsonl(tmp_path / "every.jsonl", samples)
    return tmp_path


def test_the_examples_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    commands = _commands()
    assert len(commands) == 6
    with service(oracle) as url:
        for words in commands:
            given = [url if word == "http://127.0.0.1:8000" else word for word in words]
            assert main(given[1:]) == 0, (words, capsys.readouterr().err)
    output = capsys.readouterr().out
    assert "scifact (test): 8 queries, 8 documents" in output
    assert "compared with as given" in output
    assert (folder / "scifact.png").is_file()
    assert {path.name for path in (folder / "runs").iterdir()} == {
        "first.run",
        "all-MiniLM-L6-v2-maxsim.run",
    }


def test_every_documented_jsonl_form_is_read(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["eval", "--jsonl", "every.jsonl", "--model", "embedded", "--json"]
    assert main(words) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["queries"] == 4
    bm25, model = report["rows"]
    assert (bm25["name"], model["name"]) == ("BM25", "all-MiniLM-L6-v2-maxsim")
    assert model["measures"]["P@1"]["mean"] == 1.0
    assert model["tokens"] > model["pairs"] == 8
