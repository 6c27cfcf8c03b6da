"""The tokens that models score for one query, known even if it fails or is cancelled."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from models.types import Document

CHARS_PER_TOKEN = 4


@dataclass(slots=True)
class Scored:
    """Tokens scored for a query: `done` exactly, `running` an estimate for unfinished chunks."""

    done: int = 0
    running: int = 0

    @property
    def total(self) -> int:
        return self.done + self.running


_current: ContextVar[Scored | None] = ContextVar("rerank_scored", default=None)


def estimate(query: str, documents: Sequence[Document], max_tokens: int | None = None) -> int:
    """The approximate number of tokens of the pairs, from their characters.

    `max_tokens`: the maximum of a document, if it is truncated.
    """
    limit = math.inf if max_tokens is None else CHARS_PER_TOKEN * max_tokens
    chars = sum(min(len(document), limit) for document in documents)
    return math.ceil((chars + len(query) * len(documents)) / CHARS_PER_TOKEN)


@contextmanager
def measured() -> Iterator[Scored]:
    """Count what is scored for the query in this block, also by tasks that it starts."""
    scored = Scored()
    token = _current.set(scored)
    try:
        yield scored
    finally:
        _current.reset(token)


@contextmanager
def chunk(
    query: str, documents: Sequence[Document], max_tokens: int | None = None
) -> Iterator[Scored]:
    """Count a chunk that a model scores in this block.

    If the block is cancelled, the estimate remains: the forward pass may already be running.
    """
    scored = _current.get() or Scored()
    expected = estimate(query, documents, max_tokens)
    scored.running += expected
    try:
        yield scored
    except asyncio.CancelledError:
        expected = 0
        raise
    finally:
        scored.running -= expected
