"""Datasets in one JSONL file: each line has a query and its documents."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serve_app.evaluate.dataset import Dataset, EvalError, Status, count, relevant
from serve_app.evaluate.files import line_error, lines, parse

FORMS = (
    "each line needs `query` and one of: `positive` and `negative`; `positive` and `documents`; "
    "`documents` and `relevance` (see docs/evaluation.md)"
)
LABELS = ("relevance", "label")
LISTS_OF_LABELS = ("relevance", "labels")


@dataclass(frozen=True, slots=True)
class Sample:
    """A line: its queries, its candidates without duplicates, and relevance by text."""

    queries: tuple[str, ...]
    documents: tuple[str, ...]
    relevance: Mapping[str, int]
    ordered: bool


def read(path: Path, *, depth: int, limit: int | None, seed: int, status: Status) -> Dataset:
    """Read a dataset of at most `limit` sampled lines with `depth` candidates each.

    Candidates keep the order of `documents`; those from `positive` and `negative` are shuffled
    with the seed. Only sampled lines are kept in memory. Raises EvalError, naming the line.
    """
    status(f"reading {path}")
    ids: dict[str, str] = {}
    queries: dict[str, str] = {}
    qrels: dict[str, dict[str, int]] = {}
    candidates: dict[str, list[tuple[str, float]]] = {}
    ordered, skipped = True, 0
    for number, text in _chosen(path, limit, seed):
        line = _sample(path, number, parse(path, number, text))
        if not relevant(line.relevance):
            skipped += 1
            continue
        ordered = ordered and line.ordered
        documents = list(line.documents)
        if not line.ordered:
            random.Random(f"{seed}:{number}").shuffle(documents)
        keys = [ids.setdefault(document, f"d{len(ids) + 1}") for document in documents[:depth]]
        for position, query in enumerate(line.queries, 1):
            key = str(number) if len(line.queries) == 1 else f"{number}.{position}"
            queries[key] = query
            candidates[key] = [(name, float(-i)) for i, name in enumerate(keys)]
            qrels[key] = {
                ids.setdefault(document, f"d{len(ids) + 1}"): relevance
                for document, relevance in line.relevance.items()
            }
    if not queries:
        raise EvalError(f"{path} has no query with a relevant document; {FORMS}")
    return Dataset(
        name=path.name,
        queries=queries,
        qrels=qrels,
        candidates=candidates,
        texts={key: text for text, key in ids.items()},
        size=len(ids),
        first_stage="as given" if ordered else None,
        notes=(f"skipped {count(skipped, 'line')} without a relevant document",) if skipped else (),
    )


def _chosen(path: Path, limit: int | None, seed: int) -> list[tuple[int, str]]:
    """Sample at most `limit` lines uniformly (reservoir sampling, algorithm R)."""
    if limit is None:
        return list(lines(path))
    rng = random.Random(seed)
    kept: list[tuple[int, str]] = []
    for seen, line in enumerate(lines(path)):
        if seen < limit:
            kept.append(line)
        elif (slot := rng.randrange(seen + 1)) < limit:
            kept[slot] = line
    return sorted(kept)


def _sample(path: Path, number: int, line: dict[str, Any]) -> Sample:
    queries = _strings(path, number, line, "query")
    if "positive" in line:
        positive = _strings(path, number, line, "positive")
        if ("negative" in line) == ("documents" in line):
            raise line_error(
                path, number, f"`positive` needs exactly one of `negative` and `documents`; {FORMS}"
            )
        if "negative" in line:
            documents = [*positive, *_strings(path, number, line, "negative")]
        else:
            documents = _strings(path, number, line, "documents")
        relevance = dict.fromkeys(positive, 1)
        ordered = "documents" in line
    elif isinstance(line.get("documents"), list):
        documents, labels = _labelled(path, number, line)
        relevance, ordered = {}, True
        for document, label in zip(documents, labels, strict=True):
            relevance[document] = max(label, relevance.get(document, 0))
    else:
        raise line_error(path, number, FORMS)
    if not documents:
        raise line_error(path, number, "the query has no documents")
    return Sample(tuple(queries), tuple(dict.fromkeys(documents)), relevance, ordered)


def _labelled(path: Path, number: int, line: dict[str, Any]) -> tuple[list[str], list[int]]:
    documents = line["documents"]
    labels = next((line[name] for name in LISTS_OF_LABELS if name in line), None)
    if labels is None:
        labels = [
            next((d[name] for name in LABELS if name in d), None) if isinstance(d, dict) else None
            for d in documents
        ]
    if not isinstance(labels, list) or len(labels) != len(documents):
        raise line_error(path, number, f"relevance: expected a list of {len(documents)} integers")
    for i, label in enumerate(labels):
        whole = isinstance(label, int) or (isinstance(label, float) and label.is_integer())
        if not whole:
            raise line_error(path, number, f"relevance[{i}]: expected an integer, got {label!r}")
    return _strings(path, number, line, "documents"), [max(0, int(label)) for label in labels]


def _strings(path: Path, number: int, line: dict[str, Any], name: str) -> list[str]:
    """Read the texts of a field: a string, or a list of strings or of objects with `text`."""
    value = line.get(name)
    items = value if isinstance(value, list) else [value]
    texts = []
    for i, item in enumerate(items):
        text = _text(item)
        if text is None:
            where = f"{name}[{i}]" if isinstance(value, list) else name
            raise line_error(path, number, f"{where}: expected text, got {item!r:.80}")
        texts.append(text)
    if name == "query" and not all(text.strip() for text in texts or [""]):
        raise line_error(path, number, "query is empty")
    return texts


def _text(item: Any) -> str | None:
    if not isinstance(item, dict):
        return item if isinstance(item, str) else None
    title, text = item.get("title") or "", item.get("text")
    return f"{title} {text}".strip() if isinstance(title, str) and isinstance(text, str) else None
