"""The corpus of docstrings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from serve_app.cli.main import main
from serve_app.evaluate import docstrings
from serve_app.evaluate.dataset import EvalError
from serve_app.evaluate.docstrings import build, read
from tests.serve_app.evaluate.data import TOPICS, oracle, query, service


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """Two packages of documented functions, and files that must be skipped."""
    root = tmp_path / "site-packages"
    for name, topics in (("alpha", TOPICS[:4]), ("beta", TOPICS[4:])):
        (root / name / "tests").mkdir(parents=True)
        (root / name / "__init__.py").write_text("")
        (root / name / "tests" / "test_it.py").write_text(_function("hidden", "skipped tests"))
        (root / name / "code.py").write_text("\n".join(_function(t, t) for t in topics))
    (root / "broken.py").write_text("def (:")
    (root / "brief.py").write_text('def f():\n    """Too short."""\n')
    return root


def _function(name: str, topic: str) -> str:
    body = f"    The rest speaks of {topic} at length, since a body of a useful size is needed.\n"
    return f'def {name}():\n    """{query(topic)}\n\n{body * 2}    """\n'


def test_the_corpus_pairs_first_paragraphs_with_the_rest(packages: Path) -> None:
    corpus = build(100, 0, [packages])
    assert len(corpus.queries) == len(corpus.documents) == len(TOPICS)
    for question, document in zip(corpus.queries, corpus.documents, strict=True):
        topic = next(t for t in TOPICS if t in question)
        assert topic in document
        assert question not in document
    assert "skipped" not in " ".join(corpus.documents)


def test_the_same_seed_gives_the_same_corpus(packages: Path) -> None:
    assert build(5, 7, [packages]) == build(5, 7, [packages])
    assert len(build(5, 7, [packages]).queries) == 5
    assert build(5, 7, [packages]) != build(5, 8, [packages])


def test_bm25_ranks_the_relevant_document_first(packages: Path) -> None:
    statuses: list[str] = []
    found = read(100, depth=3, limit=5, seed=0, status=statuses.append, roots=[packages])
    assert len(found.queries) == len(found.candidates) == 5
    assert all(ranked[0][0] == key for key, ranked in found.candidates.items())
    assert found.first_stage == "BM25"
    assert found.first_stage_ms is not None
    assert "corpus of 100" in statuses[0]


def test_packages_without_docstrings_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(EvalError, match="too few docstrings"):
        read(9, depth=3, limit=None, seed=0, status=print, roots=[tmp_path])


def test_this_machines_service_and_docstrings_are_the_default(
    packages: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(docstrings.sysconfig, "get_path", lambda name: str(packages))
    with service(oracle) as url:
        assert main(["eval", "--port", url.rpartition(":")[2], "--queries", "6", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["queries"], report["documents"]) == (6, len(TOPICS))
    bm25, served = report["rows"]
    assert (bm25["name"], served["name"]) == ("BM25", "served")
    assert served["measures"]["P@1"]["mean"] == 1.0
    assert bm25["ms_per_query"] > 0
