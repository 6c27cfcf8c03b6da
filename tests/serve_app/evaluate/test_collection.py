"""Reading BEIR folders and TREC files, and the errors for invalid ones."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from serve_app.evaluate import collection
from serve_app.evaluate.dataset import Dataset, EvalError
from tests.serve_app.evaluate import data
from tests.serve_app.evaluate.data import quiet


def _read(files: collection.Files, depth: int = 3, limit: int | None = None) -> Dataset:
    return collection.read(files, depth=depth, limit=limit, seed=0, status=quiet)


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


def test_judgements_can_be_read_without_texts(tmp_path: Path) -> None:
    found = collection.judgements(data.trec(tmp_path)["qrels.txt"], limit=4, seed=0)
    assert (len(found.queries), found.candidates, found.size) == (4, {}, None)
