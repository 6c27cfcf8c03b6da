"""Datasets made of several files: TREC queries, corpus, qrels and run; BEIR folders."""

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
    """The files of a collection; without a run, BM25 finds the candidates."""

    name: str
    queries: Path
    corpus: Path
    qrels: Path
    run: Path | None = None


def beir(folder: Path, split: str, run: Path | None) -> Files:
    """Find corpus.jsonl, queries.jsonl and qrels/SPLIT.tsv (or .gz) in a BEIR folder.

    Raises EvalError, naming the missing file.
    """
    if not folder.is_dir():
        raise EvalError(f"folder {folder} does not exist")
    qrels = _find(folder / "qrels" / f"{split}.tsv", split)
    return Files(
        name=f"{folder.resolve().name} ({split})",
        queries=_find(folder / "queries.jsonl"),
        corpus=_find(folder / "corpus.jsonl"),
        qrels=qrels,
        run=run,
    )


def _find(path: Path, split: str | None = None) -> Path:
    gzipped = path.with_name(f"{path.name}.gz")
    for candidate in (path, gzipped):
        if candidate.is_file():
            return candidate
    hint = ""
    if split is not None:
        splits = sorted({p.name.partition(".")[0] for p in path.parent.glob("*.tsv*")})
        hint = f"; available splits: {', '.join(splits)}" if splits else ""
    raise EvalError(f"neither {path} nor {gzipped.name} exists{hint}")


def read(files: Files, *, depth: int, limit: int | None, seed: int, status: Status) -> Dataset:
    """Read a dataset of at most `limit` sampled queries with `depth` candidates each.

    The corpus is streamed, twice if BM25 finds the candidates; only the candidates' texts are
    kept in memory. Raises EvalError.
    """
    qrels = read_qrels(files.qrels)
    queries = read_queries(files.queries)
    judged = [key for key in queries if relevant(qrels.get(key, {}))]
    if not judged:
        raise EvalError(
            f"no query in {files.queries} has a relevant document in {files.qrels}; check that "
            "their query ids match"
        )
    chosen = sample(judged, limit, seed)
    texts = {key: queries[key] for key in chosen}
    notes = []
    if skipped := len(queries) - len(judged):
        notes.append(f"skipped {count(skipped, 'query')} without a relevant document")
    ms = None
    if files.run is None:
        status(f"indexing {files.corpus}")
        index = bm25.Bm25(read_documents(files.corpus))
        started = time.perf_counter()
        candidates: Run = {key: index.search(text, depth) for key, text in texts.items()}
        ms = 1000 * (time.perf_counter() - started) / len(chosen)
        first = bm25.NAME
        del index
    else:
        given = read_run(files.run, texts)
        candidates = {key: given.run.get(key, ())[:depth] for key in texts}
        first = given.tag
    if empty := sum(not found for found in candidates.values()):
        notes.append(f"{count(empty, 'query')} without candidates scored as 0")
    if empty == len(chosen):
        raise EvalError(f"no query has candidates in {files.run or files.corpus}")
    status(f"reading {files.corpus}")
    documents, size = _texts(files.corpus, candidates)
    return Dataset(
        name=files.name,
        queries=texts,
        qrels={key: qrels[key] for key in chosen},
        candidates=candidates,
        texts=documents,
        size=size,
        first_stage=first,
        first_stage_ms=ms,
        notes=tuple(notes),
    )


def judgements(path: Path, *, limit: int | None, seed: int) -> Dataset:
    """Read judgements only: a dataset without texts, for measuring existing run files."""
    qrels = read_qrels(path)
    judged = [key for key, documents in qrels.items() if relevant(documents)]
    if not judged:
        raise EvalError(f"{path} contains no relevant documents")
    chosen = sample(judged, limit, seed)
    return Dataset(
        name=path.name,
        queries=dict.fromkeys(chosen, ""),
        qrels={key: qrels[key] for key in chosen},
        candidates={},
        texts={},
        size=None,
    )


def _texts(corpus: Path, candidates: Mapping[str, Ranked]) -> tuple[dict[str, str], int]:
    """Return the candidates' texts and the number of documents in the corpus."""
    wanted = {key for found in candidates.values() for key, _ in found}
    texts: dict[str, str] = {}
    size = 0
    for key, text in read_documents(corpus):
        size += 1
        if key in wanted:
            texts[key] = text
    for query, found in candidates.items():
        if missing := next((key for key, _ in found if key not in texts), None):
            raise EvalError(f"document {missing!r} of the run (query {query!r}) not in {corpus}")
    return texts, size
