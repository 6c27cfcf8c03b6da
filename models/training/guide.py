"""The guide that scores pairs during training, called in batches and once per pair."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import torch

from models.training.counters import Counters

# Limits the memory of a call: texts are shared, but each pair needs a list entry and a float.
PAIRS_PER_CALL = 65_536
_SHOWN_CHARS = 80


class GuideError(Exception):
    """The guide returned no usable scores. The message says for which texts, and what to do."""


class Guide(Protocol):
    """Anything that scores (query, document) pairs."""

    def score(
        self, queries: Sequence[str], documents: Sequence[Sequence[str]]
    ) -> Sequence[Sequence[float]]:
        """Score queries[i] with each of documents[i]; higher is more relevant.

        Scores may be on any finite scale but must be comparable across queries. Raises GuideError.
        """
        ...


class GuideScores:
    """The guide's scores for one training batch; each pair is scored once.

    `scores` is [queries, texts], float32 on the CPU, NaN for pairs not scored; the first `queries`
    texts are the queries. A batch of 2,048 pairs takes 64 MiB, and as much again for each other
    process whose candidates are gathered.
    """

    def __init__(
        self, guide: Guide, texts: Sequence[str], queries: int, counters: Counters
    ) -> None:
        self._guide = guide
        self._texts = texts
        self._counters = counters
        self.scores = torch.full((queries, len(texts)), float("nan"))

    def fill(self, wanted: torch.Tensor) -> None:
        """Score the wanted pairs (bool, [queries, texts]) that have no score yet.

        Raises GuideError for a wrong number of scores or a score that is not finite.
        """
        missing = wanted & self.scores.isnan()
        for rows in _calls(missing.sum(dim=1).tolist()):
            documents = [missing[row].nonzero().flatten() for row in rows]
            self._score(rows, documents)

    def _score(self, rows: Sequence[int], documents: Sequence[torch.Tensor]) -> None:
        queries = [self._texts[row] for row in rows]
        texts = [[self._texts[i] for i in ids.tolist()] for ids in documents]
        started = time.perf_counter()
        answer = self._guide.score(queries, texts)
        self._counters.guide_seconds += time.perf_counter() - started
        if len(answer) != len(rows):
            raise GuideError(f"the guide returned {len(answer)} lists for {len(rows)} queries")
        for row, query, ids, given in zip(rows, queries, documents, answer, strict=True):
            scores = np.asarray(given, dtype=np.float32)
            if scores.shape != (len(ids),):
                raise GuideError(
                    f"the guide returned scores of shape {scores.shape} for the {len(ids)} "
                    f"documents of query {_short(query)}; expected one number per document"
                )
            wrong = np.flatnonzero(~np.isfinite(scores))
            if len(wrong):
                raise GuideError(
                    f"the guide's score is {scores[wrong[0]]} for query {_short(query)} with "
                    f"document {_short(self._texts[int(ids[wrong[0]])])}; the score may overflow "
                    "the guide's precision, or its weights may be corrupt"
                )
            self.scores[row, ids] = torch.from_numpy(scores)
            self._counters.calls += len(ids)


def _calls(counts: Sequence[int]) -> Iterator[list[int]]:
    """The rows of each call: at most PAIRS_PER_CALL pairs, or a single row; empty rows skipped."""
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
