"""Datasets of one JSONL file: a query and its documents on a line."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serve_app.evaluate.dataset import Dataset, EvalError, Status, count, relevant
from serve_app.evaluate.files import lines, parse, wrong

FORMS = (
    "a line has `query` with `positive` and `negative`, `positive` and `documents`, or "
    "`documents` with `relevance`; see docs/evaluation.md"
)
LABELS = ("relevance", "label")
LISTS_OF_LABELS = ("relevance", "labels")


@dataclass(frozen=True, slots=True)
class Sample:
    """A line: its queries, its candidates with duplicates left out, relevance by text."""

    queries: tuple[str, ...]
    documents: tuple[str, ...]
    relevance: Mapping[str, int]
    ordered: bool


def read(path: Path, *, depth: int, limit: int | None, seed: int, status: Status) -> Dataset:
    """The dataset: at most `limit` lines by chance, `depth` candidates each.

    Candidates keep the order of `documents`; of `positive` and `negative` they are shuffled, by
    the seed. No more lines are kept than are wanted. Raises EvalError naming the line.
    """
    status(f"reading {path}")
    ids: dict[str, str] = {}
    queries: dict[str, str] = {}
    qrels: dict[str, dict[str, int]] = {}
    candidates: dict[str, list[tuple[str, float]]] = {}
    ordered, without = True, 0
    for number, text in _chosen(path, limit, seed):
        line = _sample(path, number, parse(path, number, text))
        if not relevant(line.relevance):
            without += 1
            continue
        ordered = ordered and line.ordered
        documents = list(line.documents)
        if not line.ordered:
            random.Random(f"{seed}:{number}").shuffle(documents)
        keys = [ids.setdefault(document, f"d{len(ids) + 1}") for document in documents[:depth]]
        for place, query in enumerate(line.queries, 1):
            key = str(number) if len(line.queries) == 1 else f"{number}.{place}"
            queries[key] = query
            candidates[key] = [(name, float(-i)) for i, name in enumerate(keys)]
            qrels[key] = {
                ids.setdefault(document, f"d{len(ids) + 1}"): relevance
                for document, relevance in line.relevance.items()
            }
    if not queries:
        raise EvalError(f"{path} holds no query with a relevant document: {FORMS}")
    return Dataset(
        name=path.name,
        queries=queries,
        qrels=qrels,
        candidates=candidates,
        texts={key: text for text, key in ids.items()},
        size=len(ids),
        first_stage="as given" if ordered else None,
        notes=(f"{count(without, 'line')} without a relevant document left out",)
        if without
        else (),
    )


def _chosen(path: Path, limit: int | None, seed: int) -> list[tuple[int, str]]:
    """At most `limit` lines, each as likely as any other (reservoir sampling, algorithm R)."""
    if limit is None:
        return list(lines(path))
    chooser = random.Random(seed)
    kept: list[tuple[int, str]] = []
    for seen, line in enumerate(lines(path)):
        if seen < limit:
            kept.append(line)
        elif (place := chooser.randrange(seen + 1)) < limit:
            kept[place] = line
    return sorted(kept)


def _sample(path: Path, number: int, line: dict[str, Any]) -> Sample:
    queries = _strings(path, number, line, "query")
    if "positive" in line:
        positive = _strings(path, number, line, "positive")
        if ("negative" in line) == ("documents" in line):
            raise wrong(path, number, f"beside `positive` one of two is wanted: {FORMS}")
        if "negative" in line:
            documents = [*positive, *_strings(path, number, line, "negative")]
        else:
            documents = _strings(path, number, line, "documents")
        relevance = dict.fromkeys(positive, 1)
        ordered = "documents" in line
    elif isinstance(line.get("documents"), list):
        documents, marks = _labelled(path, number, line)
        relevance, ordered = {}, True
        for document, mark in zip(documents, marks, strict=True):
            relevance[document] = max(mark, relevance.get(document, 0))
    else:
        raise wrong(path, number, FORMS)
    if not documents:
        raise wrong(path, number, "there are no documents")
    return Sample(tuple(queries), tuple(dict.fromkeys(documents)), relevance, ordered)


def _labelled(path: Path, number: int, line: dict[str, Any]) -> tuple[list[str], list[int]]:
    documents = line["documents"]
    marks = next((line[name] for name in LISTS_OF_LABELS if name in line), None)
    if marks is None:
        marks = [
            next((d[name] for name in LABELS if name in d), None) if isinstance(d, dict) else None
            for d in documents
        ]
    if not isinstance(marks, list) or len(marks) != len(documents):
        raise wrong(path, number, f"relevance: a list of {len(documents)} numbers is wanted")
    for place, mark in enumerate(marks):
        whole = isinstance(mark, int) or (isinstance(mark, float) and mark.is_integer())
        if not whole:
            raise wrong(path, number, f"relevance[{place}]: a whole number is wanted, not {mark!r}")
    return _strings(path, number, line, "documents"), [max(0, int(mark)) for mark in marks]


def _strings(path: Path, number: int, line: dict[str, Any], name: str) -> list[str]:
    """A field's texts: a string, or a list of strings or of objects with `text`."""
    value = line.get(name)
    items = value if isinstance(value, list) else [value]
    texts = []
    for place, item in enumerate(items):
        text = _text(item)
        if text is None:
            where = f"{name}[{place}]" if isinstance(value, list) else name
            raise wrong(path, number, f"{where}: a text is wanted, not {item!r:.80}")
        texts.append(text)
    if name == "query" and not all(text.strip() for text in texts or [""]):
        raise wrong(path, number, "query: it is empty")
    return texts


def _text(item: Any) -> str | None:
    if not isinstance(item, dict):
        return item if isinstance(item, str) else None
    title, text = item.get("title") or "", item.get("text")
    return f"{title} {text}".strip() if isinstance(title, str) and isinstance(text, str) else None
