"""`rerank eval`: its corpus, its measures, and a whole run against a small HTTP server."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.evaluate import run_eval
from serve_app.evaluate.corpus import build
from serve_app.evaluate.metrics import bootstrap_interval, ndcg, reciprocal_rank
from serve_app.evaluate.run import bm25_candidates
from tests.local_server import QuietHandler, serving

TOPICS = ("bamboo", "granite", "violin", "harbour", "saffron", "glacier", "lantern", "walnut")
Order = Callable[[str, list[str]], list[int]]


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """Two packages of documented functions, with what must be left out beside them."""
    root = tmp_path / "site-packages"
    for name, topics in (("alpha", TOPICS[:4]), ("beta", TOPICS[4:])):
        (root / name / "tests").mkdir(parents=True)
        (root / name / "__init__.py").write_text("")
        (root / name / "tests" / "test_it.py").write_text(_function("hidden", "tests are left out"))
        (root / name / "code.py").write_text("\n".join(_function(t, t) for t in topics))
    (root / "broken.py").write_text("def (:")
    (root / "brief.py").write_text('def f():\n    """Too short."""\n')
    return root


def _function(name: str, topic: str) -> str:
    body = f"    The rest speaks of {topic} at length, since a body of a useful size is needed.\n"
    query = f"Explain what {topic} is and where it comes from."
    return f'def {name}():\n    """{query}\n\n{body * 2}    """\n'


def test_the_corpus_pairs_first_paragraphs_with_the_rest(packages: Path) -> None:
    corpus = build(100, 0, [packages])
    assert len(corpus.queries) == len(corpus.documents) == len(TOPICS)
    for query, document in zip(corpus.queries, corpus.documents, strict=True):
        topic = next(t for t in TOPICS if t in query)
        assert topic in document
        assert query not in document
    assert "left out" not in " ".join(corpus.documents)


def test_the_corpus_depends_on_the_seed_alone(packages: Path) -> None:
    assert build(5, 7, [packages]) == build(5, 7, [packages])
    assert len(build(5, 7, [packages]).queries) == 5
    assert build(5, 7, [packages]) != build(5, 8, [packages])


def test_bm25_finds_the_right_document_first(packages: Path) -> None:
    corpus = build(100, 0, [packages])
    found = bm25_candidates(corpus, [3, 5])
    assert [order[0] for order in found] == [3, 5]
    assert all(sorted(order) == list(range(len(TOPICS))) for order in found)


def test_measures_by_hand() -> None:
    assert [reciprocal_rank(r) for r in (1, 4, 10, 11, None)] == [1, 0.25, 0.1, 0, 0]
    assert [ndcg(r) for r in (1, 3, 11, None)] == [1, 0.5, 0, 0]
    assert math.isclose(ndcg(2), 0.6309, abs_tol=1e-4)


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=40))
def test_the_interval_lies_within_what_was_seen(differences: list[float]) -> None:
    low, high = bootstrap_interval(differences, 0, samples=200)
    assert min(differences) - 1e-9 <= low <= high <= max(differences) + 1e-9


@contextmanager
def _server(order: Order, status: int = 200, key: str | None = None) -> Iterator[str]:
    """A /v1/rerank that answers in the order that `order` gives, to who sends `key`."""

    class Handler(QuietHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            hits = [{"index": i} for i in order(body["query"], body["documents"])]
            known = key is None or self.headers["authorization"] == f"Bearer {key}"
            self.send(status if known else 401, json.dumps({"results": hits}).encode())

    with serving(Handler) as url:
        yield url


def _backwards(query: str, documents: list[str]) -> list[int]:
    return list(reversed(range(len(documents))))


def _oracle(query: str, documents: list[str]) -> list[int]:
    topic = next(t for t in TOPICS if t in query)
    return sorted(range(len(documents)), key=lambda i: topic not in documents[i])


@pytest.mark.parametrize(("order", "mrr", "hit"), [(_oracle, 1.0, 1.0), (_backwards, 1 / 8, 0.0)])
def test_the_report_shows_the_service_beside_bm25(
    packages: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    order: Order,
    mrr: float,
    hit: float,
) -> None:
    output = tmp_path / "report.json"
    with _server(order) as url:
        status = run_eval(
            url,
            queries=100,
            corpus_size=100,
            seed=0,
            as_json=True,
            output=output,
            roots=[packages],
        )
    assert status == 0
    report = json.loads(capsys.readouterr().out)
    assert json.loads(output.read_text()) == report
    bm25, reranked = report["rows"]
    assert (bm25["method"], bm25["mrr_at_10"], report["queries"]) == ("BM25", 1.0, len(TOPICS))
    assert math.isclose(reranked["mrr_at_10"], mrr)
    assert reranked["hit_at_1"] == hit
    assert math.isclose(report["mrr_gain"]["mean"], mrr - 1.0, abs_tol=1e-12)


def test_the_table(packages: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with _server(_oracle) as url:
        assert run_eval(url, queries=3, corpus_size=100, seed=0, roots=[packages]) == 0
    out = capsys.readouterr().out
    assert "3 queries over 8 docstrings" in out
    assert "MRR@10 gain +0.000 (95% interval +0.000 to +0.000)" in out


def test_a_service_that_is_not_there(packages: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with _server(_oracle) as url:
        pass  # now nothing listens there
    assert run_eval(url, queries=3, corpus_size=100, seed=0, roots=[packages]) == 1
    assert f"nothing answers at {url}" in capsys.readouterr().err


def test_a_service_that_refuses(packages: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with _server(_oracle, status=429) as url:
        assert run_eval(url, queries=3, corpus_size=100, seed=0, roots=[packages]) == 1
    assert f"{url} answered 429" in capsys.readouterr().err


def test_a_service_that_asks_for_a_key(packages: Path) -> None:
    def status(url: str, key: str | None) -> int:
        return run_eval(url, queries=3, corpus_size=9, seed=0, roots=[packages], api_key=key)

    with _server(_oracle, key="k") as url:
        assert [status(url, key) for key in (None, "", "k")] == [1, 1, 0]


def test_packages_without_docstrings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_eval("http://unused", queries=3, corpus_size=9, seed=0, roots=[tmp_path]) == 1
    assert "too few docstrings" in capsys.readouterr().err
