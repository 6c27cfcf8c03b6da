"""The dataset of an evaluation: queries, candidates and relevance judgements."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

# The documents of one query by descending score: (document id, score).
Ranked = Sequence[tuple[str, float]]
Run = Mapping[str, Ranked]
Qrels = Mapping[str, Mapping[str, int]]
# Called with a description of the current step.
Status = Callable[[str], None]


class EvalError(Exception):
    """The evaluation cannot continue; the message says why and how to fix it."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """Queries by id, each with the candidates that every ranker has to order.

    `candidates` are in the order in which rankers receive them; `first_stage` names the ranker
    that produced this order, or is None if the order is arbitrary. `first_stage_ms` is its time
    per query, if measured. `texts` holds only the candidates; `size` is the number of documents
    in the corpus, None if it was not read. `qrels` is relevance by query and document (1 or more
    is relevant); every query has a relevant document. `notes` are shown with the results.
    """

    name: str
    queries: Mapping[str, str]
    qrels: Qrels
    candidates: Run
    texts: Mapping[str, str]
    size: int | None
    first_stage: str | None = None
    first_stage_ms: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def depth(self) -> int:
        """The largest number of candidates of a query."""
        return max((len(found) for found in self.candidates.values()), default=0)


def sample(queries: Sequence[str], limit: int | None, seed: int) -> list[str]:
    """Return a random sample of at most `limit` queries, in their original order."""
    if limit is None or limit >= len(queries):
        return list(queries)
    chosen = set(random.Random(seed).sample(range(len(queries)), limit))
    return [query for i, query in enumerate(queries) if i in chosen]


def relevant(judged: Mapping[str, int]) -> bool:
    """Return whether at least one document is relevant."""
    return any(relevance > 0 for relevance in judged.values())


def count(number: int, word: str) -> str:
    """Format a count: `1 query`, `2,000 queries`."""
    plural = word[:-1] + "ies" if word.endswith("y") else word + "s"
    return f"{number:,} {word if number == 1 else plural}"
