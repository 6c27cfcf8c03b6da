"""What judges pairs while a model is trained, and how it is asked: batched, once for each pair."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import torch

from models.training.counters import Counters

# Bounds what a call holds: texts are shared, but a list entry and a float are taken by each pair.
PAIRS_PER_CALL = 65_536
_SHOWN_CHARS = 80


class GuideError(Exception):
    """The guide gave no usable scores. The message says which, where, and what to do."""


class Guide(Protocol):
    """Anything that scores (query, document) pairs."""

    def score(
        self, queries: Sequence[str], documents: Sequence[Sequence[str]]
    ) -> Sequence[Sequence[float]]:
        """Score queries[i] with each of documents[i]; higher is more relevant.

        Scores of one guide must compare across queries, on any finite scale. Raises GuideError.
        """
        ...


class Table:
    """The guide's scores of one training batch, each pair asked for once.

    `scores` is [queries, texts], float32 on the processor, NaN where nothing was asked; the first
    `queries` texts are those that are asked about the others. A batch of 2,048 pairs takes 64 MiB,
    and as much again for each further process whose candidates are gathered.
    """

    def __init__(
        self, guide: Guide, texts: Sequence[str], queries: int, counters: Counters
    ) -> None:
        self._guide = guide
        self._texts = texts
        self._counters = counters
        self.scores = torch.full((queries, len(texts)), float("nan"))

    def fill(self, wanted: torch.Tensor) -> None:
        """Ask for what is wanted (bool, [queries, texts]) and not yet known.

        Raises GuideError for a wrong number of scores and for one that is not finite.
        """
        missing = wanted & self.scores.isnan()
        for rows in _portions(missing.sum(dim=1).tolist()):
            documents = [missing[row].nonzero().flatten() for row in rows]
            self._ask(rows, documents)

    def _ask(self, rows: Sequence[int], documents: Sequence[torch.Tensor]) -> None:
        queries = [self._texts[row] for row in rows]
        texts = [[self._texts[i] for i in ids.tolist()] for ids in documents]
        started = time.perf_counter()
        answer = self._guide.score(queries, texts)
        self._counters.guide_seconds += time.perf_counter() - started
        if len(answer) != len(rows):
            raise GuideError(f"the guide answered {len(answer)} queries; it was asked {len(rows)}")
        for row, query, ids, given in zip(rows, queries, documents, answer, strict=True):
            scores = np.asarray(given, dtype=np.float32)
            if scores.shape != (len(ids),):
                raise GuideError(
                    f"the guide gave scores of shape {scores.shape} for the {len(ids)} documents "
                    f"of query {_short(query)}; one number for each is needed"
                )
            wrong = np.flatnonzero(~np.isfinite(scores))
            if len(wrong):
                raise GuideError(
                    f"the guide's score is {scores[wrong[0]]} for query {_short(query)} with "
                    f"document {_short(self._texts[int(ids[wrong[0]])])}; is it too large for the "
                    "guide's precision, or are its weights damaged?"
                )
            self.scores[row, ids] = torch.from_numpy(scores)
            self._counters.calls += len(ids)


def _portions(counts: Sequence[int]) -> Iterator[list[int]]:
    """Rows that have something to ask for, cut so that a portion has PAIRS_PER_CALL or one row."""
    rows: list[int] = []
    pairs = 0
    for row, count in enumerate(counts):
        if count and rows and pairs + count > PAIRS_PER_CALL:
            yield rows
            rows, pairs = [], 0
        if count:
            rows.append(row)
            pairs += count
    if rows:
        yield rows


def _short(text: str) -> str:
    return repr(text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…")
