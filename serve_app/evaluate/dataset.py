"""What is evaluated on: queries, their candidates' texts, and which documents are relevant."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

# Documents of one query by falling score: (document id, score).
Ranked = Sequence[tuple[str, float]]
Run = Mapping[str, Ranked]
Qrels = Mapping[str, Mapping[str, int]]
# Told what is being read, for whoever waits.
Status = Callable[[str], None]


class EvalError(Exception):
    """The evaluation can't go on; the message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """Queries by id, and for each the candidates that every ranker gets.

    `candidates` are in the order in which rankers get them; `first_stage` names what put them in
    that order, None where it means nothing. `first_stage_ms` is what that cost a query, where it
    was measured. `texts` holds the candidates alone; `size` counts the whole corpus, None where
    it was not read. `qrels`: relevance by query and document, 1 or more is relevant; each query
    has a relevant document. `notes` are for the reader of the results.
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
        """The most candidates that a query has."""
        return max((len(found) for found in self.candidates.values()), default=0)


def sample(queries: Sequence[str], limit: int | None, seed: int) -> list[str]:
    """At most `limit` of the queries, by chance, in their order."""
    if limit is None or limit >= len(queries):
        return list(queries)
    chosen = set(random.Random(seed).sample(range(len(queries)), limit))
    return [query for i, query in enumerate(queries) if i in chosen]


def relevant(judged: Mapping[str, int]) -> bool:
    """Whether one document at least is relevant."""
    return any(relevance > 0 for relevance in judged.values())


def count(number: int, word: str) -> str:
    """`1 query`, `2,000 queries`."""
    plural = word[:-1] + "ies" if word.endswith("y") else word + "s"
    return f"{number:,} {word if number == 1 else plural}"
