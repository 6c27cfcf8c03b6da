"""What is read from BEIR folders, TREC files and JSONL, and what is said of bad ones."""

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


def test_a_beir_folder(tmp_path: Path) -> None:
    found = _read(collection.beir(data.beir(tmp_path / "zoo"), "test", None))
    assert found.name == "zoo (test)"
    assert (len(found.queries), found.size, found.first_stage) == (8, 8, "BM25")
    assert found.candidates["q-violin"][0][0] == "d-violin"
    assert found.texts["d-violin"] == f"Violin {data.document('violin')}"
    assert found.qrels["q-violin"] == {"d-violin": 2, "d-harbour": 1}


def test_a_beir_folder_in_gzip(tmp_path: Path) -> None:
    folder = data.beir(tmp_path / "zoo")
    plain = _read(collection.beir(folder, "test", None))
    for path in [*folder.glob("*.jsonl"), *folder.glob("qrels/*")]:
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    packed = _read(collection.beir(folder, "test", None))
    assert (packed.texts, packed.candidates) == (plain.texts, plain.candidates)


def test_what_a_beir_folder_lacks_is_named(tmp_path: Path) -> None:
    folder = data.beir(tmp_path / "zoo")
    with pytest.raises(EvalError, match=r"dev\.tsv is missing.*the splits test"):
        collection.beir(folder, "dev", None)
    (folder / "corpus.jsonl").unlink()
    with pytest.raises(EvalError, match=r"corpus\.jsonl is missing, and corpus\.jsonl\.gz too"):
        collection.beir(folder, "test", None)
    with pytest.raises(EvalError, match="does not exist"):
        collection.beir(tmp_path / "none", "test", None)


def _trec(folder: Path) -> collection.Files:
    parts = data.trec(folder)
    names = ("topics.tsv", "collection.tsv", "qrels.txt", "first.run")
    return collection.Files("trec", *(parts[name] for name in names))


def test_trec_files_keep_the_candidates_texts_alone(tmp_path: Path) -> None:
    files = _trec(tmp_path)
    with files.corpus.open("a") as corpus:
        corpus.write("d-extra\tnobody asks for this\n")
    found = _read(files)
    assert found.first_stage == "first"
    assert [name for name, _ in found.candidates["q-bamboo"]] == ["d-harbour", "d-bamboo"]
    assert (found.size, len(found.texts), "d-extra" in found.texts) == (9, 8, False)
    assert [len(ranked) for ranked in _read(files, depth=1).candidates.values()] == [1] * 8


def test_a_limit_takes_the_same_queries_for_a_seed(tmp_path: Path) -> None:
    files = _trec(tmp_path)
    assert _read(files, limit=3).queries == _read(files, limit=3).queries
    assert len(_read(files, limit=3).queries) == 3


def test_queries_that_can_not_count_are_told(tmp_path: Path) -> None:
    files = _trec(tmp_path)
    with files.queries.open("a") as queries:
        queries.write("q-new\twithout judgements\n")
    assert files.run is not None
    lines = files.run.read_text().splitlines()
    files.run.write_text("\n".join(lines[2:]) + "\n")  # none for the first query
    found = _read(files)
    assert found.notes == (
        "1 query without a relevant document left out",
        "1 query without candidates, which count as 0",
    )


@pytest.mark.parametrize(
    ("name", "line", "message"),
    [
        ("topics.tsv", "q-alone", "topics.tsv:9: 2 columns with tabs"),
        ("topics.tsv", "q-bamboo\tagain", "topics.tsv:9: the query 'q-bamboo' comes twice"),
        ("topics.tsv", '{"id": "x"}', "topics.tsv:9: a text is missing"),
        ("topics.tsv", '{"text": "x"}', "topics.tsv:9: an id is missing"),
        ("topics.tsv", '{"text": ', "topics.tsv:9: not JSON"),
        ("collection.tsv", "a\tb\tc\td", "collection.tsv:9: 2 or 3 columns"),
        ("qrels.txt", "q-bamboo 0", "qrels.txt:9: 3 or 4 columns are wanted, not 2"),
        ("qrels.txt", "q-bamboo 0 d-x much", "qrels.txt:9: relevance: a whole number"),
        ("qrels.txt", "q-bamboo 0 d-bamboo 1", "qrels.txt:9: 'd-bamboo' is judged twice"),
        ("first.run", "q-bamboo Q0 d-x 1 0.5", "first.run:17: 6 columns are wanted, not 5"),
        ("first.run", "q-bamboo Q0 d-x 1 nan t", "first.run:17: score: a number"),
        ("first.run", "q-bamboo Q0 d-bamboo 1 1 t", "first.run:17: 'd-bamboo' comes twice"),
        ("first.run", "q-bamboo Q0 d-lost 3 0.1 t", "the run's document 'd-lost'"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, name: str, line: str, message: str) -> None:
    files = _trec(tmp_path)
    with (tmp_path / name).open("a") as file:
        file.write(line + "\n")
    with pytest.raises(EvalError) as error:
        _read(files)
    assert message in str(error.value)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "queries.tsv"
    path.write_bytes(b"q1\tfine\nq2\t\xff\n")
    with pytest.raises(EvalError, match=r"queries\.tsv:2: not UTF-8"):
        read_queries(path)
    path.write_bytes(gzip.compress(b"q1\tfine\n" * 99)[:-12])
    with pytest.raises(EvalError, match="damaged gzip"):
        list(read_documents(path))
    with pytest.raises(EvalError, match="can't be read: No such file"):
        read_queries(tmp_path / "none")


def test_a_run_is_read_in_trec_evals_order(tmp_path: Path) -> None:
    path = tmp_path / "a.run"
    path.write_text("q Q0 a 1 0.5 t\nq Q0 c 2 0.9 t\nq Q0 b 3 0.5 t\nother Q0 a 1 1 t\n")
    found = read_run(path, {"q"})
    assert found.run == {"q": [("c", 0.9), ("b", 0.5), ("a", 0.5)]}
    assert found.tag == "t"


def test_what_is_written_reads_in_the_same_order(tmp_path: Path) -> None:
    path = tmp_path / "b.run"
    ranked = [("a", 0.5), ("b", 0.5), ("c", 0.5 - 1e-12), ("d", -3.0)]
    write_run(path, {"q": ranked}, "tag")
    scores = [np.float32(line.split()[4]) for line in path.read_text().splitlines()]
    assert scores == sorted(set(scores), reverse=True)
    assert [name for name, _ in read_run(path, {"q"}).run["q"]] == ["a", "b", "c", "d"]


def test_negative_relevance_counts_as_none(tmp_path: Path) -> None:
    path = tmp_path / "qrels"
    path.write_text("q 0 a -2\nq 0 b +1\n")
    assert read_qrels(path) == {"q": {"a": 0, "b": 1}}


def test_bm25_leaves_out_what_shares_no_word() -> None:
    index = Bm25([("a", "pandas eat bamboo"), ("b", "stocks fell"), ("c", "bamboo grows")])
    assert [name for name, _ in index.search("what bamboo pandas like", 5)] == ["a", "c"]
    assert index.search("nothing known", 5) == []
    assert [score > 0 for score in index.scores("bamboo", ["b", "c"])] == [False, True]
    with pytest.raises(EvalError, match="'a' twice"):
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
def test_each_form_of_a_line(
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


def test_positives_have_no_place_of_their_own(tmp_path: Path) -> None:
    found = _samples(data.jsonl(tmp_path / "s.jsonl", [NEGATIVE] * 400))
    places = Counter(
        [found.texts[name] for name, _ in ranked].index("teeth")
        for ranked in found.candidates.values()
    )
    assert min(places[i] for i in range(4)) > 50


def test_a_missing_positive_and_a_list_of_queries(tmp_path: Path) -> None:
    line = {"query": ["one", "two"], "positive": ["teeth"], "documents": ["stocks"]}
    found = _samples(data.jsonl(tmp_path / "s.jsonl", [line]))
    assert found.queries == {"1.1": "one", "1.2": "two"}
    (relevant,) = found.qrels["1.2"]
    assert relevant not in [name for name, _ in found.candidates["1.2"]]


def test_lines_are_taken_by_chance(tmp_path: Path) -> None:
    rows = [{**NEGATIVE, "query": f"number {i}"} for i in range(50)]
    path = data.jsonl(tmp_path / "s.jsonl", rows)
    found = _samples(path, limit=5)
    assert len(found.queries) == 5
    assert list(found.queries) == sorted(found.queries, key=int) != ["1", "2", "3", "4", "5"]
    assert found.queries == _samples(path, limit=5).queries


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (QUERY, "s.jsonl:2: a line has `query` with"),
        ({"positive": ["a"], "negative": ["b"]}, "s.jsonl:2: query: a text"),
        ({**NEGATIVE, "query": " "}, "s.jsonl:2: query: it is empty"),
        ({**NEGATIVE, "documents": ["b"]}, "s.jsonl:2: beside `positive` one of two"),
        ({**NEGATIVE, "negative": ["a", 3]}, "s.jsonl:2: negative[1]: a text is wanted, not 3"),
        ({**LISTED, "relevance": [1]}, "s.jsonl:2: relevance: a list of 2 numbers"),
        ({**LISTED, "relevance": [1, 0.5]}, "s.jsonl:2: relevance[1]: a whole number"),
        (INLINE, "s.jsonl:2: relevance[0]: a whole number is wanted, not None"),
        ({**RANKED, "documents": []}, "s.jsonl:2: there are no documents"),
    ],
)
def test_a_bad_sample_is_named(tmp_path: Path, line: dict[str, object], message: str) -> None:
    with pytest.raises(EvalError) as error:
        _samples(data.jsonl(tmp_path / "s.jsonl", [LISTED, line]))
    assert message in str(error.value)


def test_samples_without_anything_relevant(tmp_path: Path) -> None:
    none = {**LISTED, "relevance": [0, 0]}
    assert _samples(data.jsonl(tmp_path / "a.jsonl", [none, LISTED])).notes == (
        "1 line without a relevant document left out",
    )
    with pytest.raises(EvalError, match="no query with a relevant document"):
        _samples(data.jsonl(tmp_path / "b.jsonl", [none]))


def test_judgements_alone(tmp_path: Path) -> None:
    found = collection.judgements(data.trec(tmp_path)["qrels.txt"], limit=4, seed=0)
    assert (len(found.queries), found.candidates, found.size) == (4, {}, None)
