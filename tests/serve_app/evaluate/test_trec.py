"""Runs and judgements in TREC's formats."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from serve_app.evaluate.trec import read_qrels, read_run, write_run


def test_a_run_is_read_in_trec_evals_order(tmp_path: Path) -> None:
    path = tmp_path / "a.run"
    path.write_text("q Q0 a 1 0.5 t\nq Q0 c 2 0.9 t\nq Q0 b 3 0.5 t\nother Q0 a 1 1 t\n")
    found = read_run(path, {"q"})
    assert found.run == {"q": [("c", 0.9), ("b", 0.5), ("a", 0.5)]}
    assert found.tag == "t"


def test_a_written_run_keeps_its_order(tmp_path: Path) -> None:
    path = tmp_path / "b.run"
    ranked = [("a", 0.5), ("b", 0.5), ("c", 0.5 - 1e-12), ("d", -3.0)]
    write_run(path, {"q": ranked}, "tag")
    scores = [np.float32(line.split()[4]) for line in path.read_text().splitlines()]
    assert scores == sorted(set(scores), reverse=True)
    assert [name for name, _ in read_run(path, {"q"}).run["q"]] == ["a", "b", "c", "d"]


def test_negative_relevance_counts_as_zero(tmp_path: Path) -> None:
    path = tmp_path / "qrels"
    path.write_text("q 0 a -2\nq 0 b +1\n")
    assert read_qrels(path) == {"q": {"a": 0, "b": 1}}
