"""Datasets of several files: TREC's queries, corpus, qrels and run, and BEIR's folders."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from serve_app.evaluate import bm25
from serve_app.evaluate.dataset import (
    Dataset,
    EvalError,
    Ranked,
    Run,
    Status,
    count,
    relevant,
    sample,
)
from serve_app.evaluate.texts import read_documents, read_queries
from serve_app.evaluate.trec import read_qrels, read_run


@dataclass(frozen=True, slots=True)
class Files:
    """Where a collection's parts are. Without a run BM25 finds the candidates."""

    name: str
    queries: Path
    corpus: Path
    qrels: Path
    run: Path | None = None


def beir(folder: Path, split: str, run: Path | None) -> Files:
    """The files of a BEIR folder: corpus.jsonl, queries.jsonl and qrels/SPLIT.tsv, or .gz of them.

    Raises EvalError naming what is missing.
    """
    if not folder.is_dir():
        raise EvalError(f"the folder {folder} does not exist")
    qrels = _present(folder / "qrels" / f"{split}.tsv", split)
    return Files(
        name=f"{folder.resolve().name} ({split})",
        queries=_present(folder / "queries.jsonl"),
        corpus=_present(folder / "corpus.jsonl"),
        qrels=qrels,
        run=run,
    )


def _present(path: Path, split: str | None = None) -> Path:
    packed = path.with_name(f"{path.name}.gz")
    for candidate in (path, packed):
        if candidate.is_file():
            return candidate
    hint = ""
    if split is not None:
        there = sorted({p.name.partition(".")[0] for p in path.parent.glob("*.tsv*")})
        hint = f"; there are the splits {', '.join(there)}" if there else ""
    raise EvalError(f"{path} is missing, and {packed.name} too{hint}")


def read(files: Files, *, depth: int, limit: int | None, seed: int, status: Status) -> Dataset:
    """The dataset: at most `limit` queries by chance, `depth` candidates each.

    The corpus is read as a stream, twice where BM25 finds the candidates; of its texts the
    candidates' alone are kept. Raises EvalError.
    """
    qrels = read_qrels(files.qrels)
    queries = read_queries(files.queries)
    judged = [key for key in queries if relevant(qrels.get(key, {}))]
    if not judged:
        raise EvalError(
            f"no query of {files.queries} has a relevant document in {files.qrels}: "
            "their ids may differ"
        )
    asked = sample(judged, limit, seed)
    texts = {key: queries[key] for key in asked}
    notes = []
    if gone := len(queries) - len(judged):
        notes.append(f"{count(gone, 'query')} without a relevant document left out")
    ms = None
    if files.run is None:
        status(f"indexing {files.corpus}")
        index = bm25.Bm25(read_documents(files.corpus))
        started = time.perf_counter()
        candidates: Run = {key: index.search(text, depth) for key, text in texts.items()}
        ms = 1000 * (time.perf_counter() - started) / len(asked)
        first = bm25.NAME
        del index
    else:
        given = read_run(files.run, texts)
        candidates = {key: given.run.get(key, ())[:depth] for key in texts}
        first = given.tag
    if empty := sum(not found for found in candidates.values()):
        notes.append(f"{count(empty, 'query')} without candidates, which count as 0")
    if empty == len(asked):
        raise EvalError(f"no query has candidates: {files.run or files.corpus} fits no query")
    status(f"reading {files.corpus}")
    documents, size = _texts(files.corpus, candidates)
    return Dataset(
        name=files.name,
        queries=texts,
        qrels={key: qrels[key] for key in asked},
        candidates=candidates,
        texts=documents,
        size=size,
        first_stage=first,
        first_stage_ms=ms,
        notes=tuple(notes),
    )


def judgements(path: Path, *, limit: int | None, seed: int) -> Dataset:
    """A dataset without texts, on which given rankings alone can be measured."""
    qrels = read_qrels(path)
    judged = [key for key, documents in qrels.items() if relevant(documents)]
    if not judged:
        raise EvalError(f"{path} holds no relevant document")
    asked = sample(judged, limit, seed)
    return Dataset(
        name=path.name,
        queries=dict.fromkeys(asked, ""),
        qrels={key: qrels[key] for key in asked},
        candidates={},
        texts={},
        size=None,
    )


def _texts(corpus: Path, candidates: Mapping[str, Ranked]) -> tuple[dict[str, str], int]:
    """The candidates' texts, and how many documents the corpus has."""
    wanted = {key for found in candidates.values() for key, _ in found}
    texts: dict[str, str] = {}
    size = 0
    for key, text in read_documents(corpus):
        size += 1
        if key in wanted:
            texts[key] = text
    for query, found in candidates.items():
        if missing := next((key for key, _ in found if key not in texts), None):
            raise EvalError(f"the run's document {missing!r} (query {query!r}) is not in {corpus}")
    return texts, size
