"""Reading JSONL samples, and the errors for invalid ones."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from serve_app.evaluate import samples
from serve_app.evaluate.dataset import Dataset, EvalError
from tests.serve_app.evaluate import data
from tests.serve_app.evaluate.data import quiet


def _samples(path: Path, depth: int | None = None, limit: int | None = None) -> Dataset:
    return samples.read(path, depth=depth, limit=limit, seed=0, status=quiet)


QUERY = {"query": "how do pandas eat?"}
NEGATIVE = {**QUERY, "positive": ["teeth"], "negative": ["stocks", "rain", "snow"]}
RANKED = {**QUERY, "positive": "teeth", "documents": ["stocks", "teeth", "stocks"]}
LISTED = {**QUERY, "documents": ["stocks", "teeth"], "relevance": [0, 2]}
INLINE = {**QUERY, "documents": [{"text": "stocks"}, {"title": "a", "text": "b", "label": 1}]}


@pytest.mark.parametrize(
    ("line", "texts", "relevance", "first"),
    [
        (NEGATIVE, {"teeth", "stocks", "rain", "snow"}, {"teeth": 1}, None),
        (RANKED, {"stocks", "teeth"}, {"teeth": 1}, "as given"),
        (LISTED, {"stocks", "teeth"}, {"stocks": 0, "teeth": 2}, "as given"),
        (
            {**QUERY, "documents": [{"text": "stocks", "label": 0}, INLINE["documents"][1]]},
            {"stocks", "a b"},
            {"stocks": 0, "a b": 1},
            "as given",
        ),
    ],
)
def test_every_form_of_a_sample_is_read(
    tmp_path: Path,
    line: dict[str, object],
    texts: set[str],
    relevance: dict[str, int],
    first: str | None,
) -> None:
    found = _samples(data.jsonl(tmp_path / "s.jsonl.gz", [line]))
    assert {found.texts[name] for name, _ in found.candidates["1"]} == texts
    assert {found.texts[name]: n for name, n in found.qrels["1"].items()} == relevance
    assert found.first_stage == first


def test_positives_and_negatives_are_shuffled(tmp_path: Path) -> None:
    found = _samples(data.jsonl(tmp_path / "s.jsonl", [NEGATIVE] * 400))
    positions = Counter(
        [found.texts[name] for name, _ in ranked].index("teeth")
        for ranked in found.candidates.values()
    )
    assert min(positions[i] for i in range(4)) > 50


def test_a_list_of_queries_and_a_positive_outside_the_documents(tmp_path: Path) -> None:
    line = {"query": ["one", "two"], "positive": ["teeth"], "documents": ["stocks"]}
    found = _samples(data.jsonl(tmp_path / "s.jsonl", [line]))
    assert found.queries == {"1.1": "one", "1.2": "two"}
    (relevant,) = found.qrels["1.2"]
    assert relevant not in [name for name, _ in found.candidates["1.2"]]


def test_lines_are_sampled_at_random(tmp_path: Path) -> None:
    rows = [{**NEGATIVE, "query": f"number {i}"} for i in range(50)]
    path = data.jsonl(tmp_path / "s.jsonl", rows)
    found = _samples(path, limit=5)
    assert len(found.queries) == 5
    assert list(found.queries) == sorted(found.queries, key=int) != ["1", "2", "3", "4", "5"]
    assert found.queries == _samples(path, limit=5).queries


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (QUERY, "s.jsonl:2: each line needs `query` and one of"),
        ({"positive": ["a"], "negative": ["b"]}, "s.jsonl:2: query: expected text"),
        ({**NEGATIVE, "query": " "}, "s.jsonl:2: query is empty"),
        ({**NEGATIVE, "documents": ["b"]}, "s.jsonl:2: `positive` needs exactly one of"),
        ({**NEGATIVE, "negative": ["a", 3]}, "s.jsonl:2: negative[1]: expected text, got 3"),
        ({**LISTED, "relevance": [1]}, "s.jsonl:2: relevance: expected a list of 2 integers"),
        ({**LISTED, "relevance": [1, 0.5]}, "s.jsonl:2: relevance[1]: expected an integer"),
        (INLINE, "s.jsonl:2: relevance[0]: expected an integer, got None"),
        ({**RANKED, "documents": []}, "s.jsonl:2: the query has no documents"),
    ],
)
def test_an_invalid_sample_is_named(tmp_path: Path, line: dict[str, object], message: str) -> None:
    with pytest.raises(EvalError) as error:
        _samples(data.jsonl(tmp_path / "s.jsonl", [LISTED, line]))
    assert message in str(error.value)


def test_samples_without_a_relevant_document_are_skipped(tmp_path: Path) -> None:
    none = {**LISTED, "relevance": [0, 0]}
    assert _samples(data.jsonl(tmp_path / "a.jsonl", [none, LISTED])).notes == (
        "skipped 1 line without a relevant document",
    )
    with pytest.raises(EvalError, match="no query with a relevant document"):
        _samples(data.jsonl(tmp_path / "b.jsonl", [none]))
