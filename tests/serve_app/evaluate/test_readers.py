"""Reading BEIR folders, TREC files and JSONL, and the errors for invalid ones."""

from __future__ import annotations

import gzip
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from serve_app.evaluate import collection, samples
from serve_app.evaluate.bm25 import Bm25
from serve_app.evaluate.dataset import Dataset, EvalError
from serve_app.evaluate.texts import read_documents, read_queries
from serve_app.evaluate.trec import read_qrels, read_run, write_run
from tests.serve_app.evaluate import data


def _quiet(text: str) -> None:
    return None


def _read(files: collection.Files, depth: int = 3, limit: int | None = None) -> Dataset:
    return collection.read(files, depth=depth, limit=limit, seed=0, status=_quiet)


def _samples(path: Path, depth: int | None = None, limit: int | None = None) -> Dataset:
    return samples.read(path, depth=depth, limit=limit, seed=0, status=_quiet)


def test_a_beir_folder_is_read(tmp_path: Path) -> None:
    found = _read(collection.beir(data.beir(tmp_path / "zoo"), "test", None))
    assert found.name == "zoo (test)"
    assert (len(found.queries), found.size, found.first_stage) == (8, 8, "BM25")
    assert found.candidates["q-violin"][0][0] == "d-violin"
    assert found.texts["d-violin"] == f"Violin {data.document('violin')}"
    assert found.qrels["q-violin"] == {"d-violin": 2, "d-harbour": 1}


def test_a_gzipped_beir_folder_is_read(tmp_path: Path) -> None:
    folder = data.beir(tmp_path / "zoo")
    plain = _read(collection.beir(folder, "test", None))
    for path in [*folder.glob("*.jsonl"), *folder.glob("qrels/*")]:
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    gzipped = _read(collection.beir(folder, "test", None))
    assert (gzipped.texts, gzipped.candidates) == (plain.texts, plain.candidates)


def test_missing_beir_files_are_named(tmp_path: Path) -> None:
    folder = data.beir(tmp_path / "zoo")
    with pytest.raises(EvalError, match=r"dev\.tsv\.gz exists; available splits: test"):
        collection.beir(folder, "dev", None)
    (folder / "corpus.jsonl").unlink()
    with pytest.raises(EvalError, match=r"corpus\.jsonl nor corpus\.jsonl\.gz exists"):
        collection.beir(folder, "test", None)
    with pytest.raises(EvalError, match="does not exist"):
        collection.beir(tmp_path / "none", "test", None)


def _trec(folder: Path) -> collection.Files:
    parts = data.trec(folder)
    names = ("topics.tsv", "collection.tsv", "qrels.txt", "first.run")
    return collection.Files("trec", *(parts[name] for name in names))


def test_only_the_candidates_texts_are_kept(tmp_path: Path) -> None:
    files = _trec(tmp_path)
    with files.corpus.open("a") as corpus:
        corpus.write("d-extra\tnot a candidate\n")
    found = _read(files)
    assert found.first_stage == "first"
    assert [name for name, _ in found.candidates["q-bamboo"]] == ["d-harbour", "d-bamboo"]
    assert (found.size, len(found.texts), "d-extra" in found.texts) == (9, 8, False)
    assert [len(ranked) for ranked in _read(files, depth=1).candidates.values()] == [1] * 8


def test_the_same_seed_samples_the_same_queries(tmp_path: Path) -> None:
    files = _trec(tmp_path)
    assert _read(files, limit=3).queries == _read(files, limit=3).queries
    assert len(_read(files, limit=3).queries) == 3


def test_skipped_queries_are_noted(tmp_path: Path) -> None:
    files = _trec(tmp_path)
    with files.queries.open("a") as queries:
        queries.write("q-new\twithout judgements\n")
    assert files.run is not None
    lines = files.run.read_text().splitlines()
    files.run.write_text("\n".join(lines[2:]) + "\n")  # no candidates for the first query
    found = _read(files)
    assert found.notes == (
        "skipped 1 query without a relevant document",
        "1 query without candidates scored as 0",
    )


@pytest.mark.parametrize(
    ("name", "line", "message"),
    [
        ("topics.tsv", "q-alone", "topics.tsv:9: expected 2 tab-separated columns, got 1"),
        ("topics.tsv", "q-bamboo\tagain", "topics.tsv:9: duplicate query 'q-bamboo'"),
        ("topics.tsv", '{"id": "x"}', "topics.tsv:9: no text: expected a string"),
        ("topics.tsv", '{"text": "x"}', "topics.tsv:9: no id: expected one of"),
        ("topics.tsv", '{"text": ', "topics.tsv:9: invalid JSON"),
        ("collection.tsv", "a\tb\tc\td", "collection.tsv:9: expected 2 or 3 tab-separated columns"),
        ("qrels.txt", "q-bamboo 0", "qrels.txt:9: expected 3 or 4 columns, got 2"),
        ("qrels.txt", "q-bamboo 0 d-x much", "qrels.txt:9: relevance: expected an integer"),
        ("qrels.txt", "q-bamboo 0 d-bamboo 1", "qrels.txt:9: duplicate judgement of document"),
        ("first.run", "q-bamboo Q0 d-x 1 0.5", "first.run:17: expected 6 columns, got 5"),
        ("first.run", "q-bamboo Q0 d-x 1 nan t", "first.run:17: score: expected a number"),
        ("first.run", "q-bamboo Q0 d-bamboo 1 1 t", "first.run:17: duplicate document 'd-bamboo'"),
        ("first.run", "q-bamboo Q0 d-lost 3 0.1 t", "document 'd-lost' of the run"),
    ],
)
def test_an_invalid_line_is_named(tmp_path: Path, name: str, line: str, message: str) -> None:
    files = _trec(tmp_path)
    with (tmp_path / name).open("a") as file:
        file.write(line + "\n")
    with pytest.raises(EvalError) as error:
        _read(files)
    assert message in str(error.value)


def test_unreadable_files_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "queries.tsv"
    path.write_bytes(b"q1\tfine\nq2\t\xff\n")
    with pytest.raises(EvalError, match=r"queries\.tsv:2: not UTF-8"):
        read_queries(path)
    path.write_bytes(gzip.compress(b"q1\tfine\n" * 99)[:-12])
    with pytest.raises(EvalError, match="corrupt gzip file"):
        list(read_documents(path))
    with pytest.raises(EvalError, match=r"cannot read .*none: No such file"):
        read_queries(tmp_path / "none")


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


def test_bm25_returns_only_documents_that_share_a_word() -> None:
    index = Bm25([("a", "pandas eat bamboo"), ("b", "stocks fell"), ("c", "bamboo grows")])
    assert [name for name, _ in index.search("what bamboo pandas like", 5)] == ["a", "c"]
    assert index.search("nothing known", 5) == []
    assert [score > 0 for score in index.scores("bamboo", ["b", "c"])] == [False, True]
    with pytest.raises(EvalError, match="duplicate document 'a'"):
        Bm25([("a", "one word"), ("a", "another")])
    with pytest.raises(EvalError, match="no words"):
        Bm25([("a", "…"), ("b", "the")])


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


def test_judgements_can_be_read_without_texts(tmp_path: Path) -> None:
    found = collection.judgements(data.trec(tmp_path)["qrels.txt"], limit=4, seed=0)
    assert (len(found.queries), found.candidates, found.size) == (4, {}, None)
