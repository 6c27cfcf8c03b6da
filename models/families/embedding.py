"""The base class of families that embed query and document separately and cache documents."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch

from models.checkpoint import Checkpoint
from models.engines import Engine
from models.families.base import Family
from models.representations import Representation, Representations
from models.types import DEFAULTS, Encoded, Score, ScoreOptions, TokenRow

# Hidden states take kilobytes per token. A merged batch on a CPU has no more tokens than this.
TOKENS_AT_ONCE = 16_384


class Embedding(Family):
    """Runs the query's row for each request, and a document's row only if it is not cached."""

    def __init__(
        self, checkpoint: Checkpoint, engine: Engine, *, detail: str = "", **more: Any
    ) -> None:
        self._documents = Representations(checkpoint.spec.representation_cache_bytes)
        if self._documents.enabled:
            # Rounding changes scores a little, so the score cache's keys must differ too.
            detail = ", ".join(filter(None, [detail, "float16 documents"]))
        super().__init__(checkpoint, engine, detail=detail, **more)

    @abstractmethod
    def _query_row(self, query: str) -> tuple[TokenRow, bool]:
        """The cleaned query's row, and whether it was truncated."""

    @abstractmethod
    def _document_rows(self, documents: Sequence[str]) -> tuple[list[TokenRow], list[bool]]:
        """The cleaned documents' rows, and which were truncated."""

    @abstractmethod
    def _embed_query(self, output: torch.Tensor) -> torch.Tensor:
        """The query's representation, from its hidden states [tokens, hidden]."""

    @abstractmethod
    def _represent(self, output: torch.Tensor, row: TokenRow, truncated: bool) -> Representation:
        """A document's representation, from its hidden states [tokens, hidden]."""

    @abstractmethod
    def _compare(self, query: torch.Tensor, documents: Sequence[Representation]) -> torch.Tensor:
        """Raw scores [documents], for at least one document."""

    def encode(
        self, query: str, documents: Sequence[str], options: ScoreOptions = DEFAULTS
    ) -> Encoded:
        """The query's row, then one for each document that is not cached.

        Tokens of cached documents are counted too, so that a request's number of tokens does not
        depend on earlier requests.
        """
        asked, cut_query = self._query_row(self._clean(query))
        documents_alone = self._encode_documents(documents)
        return replace(
            documents_alone,
            rows=[asked, *documents_alone.rows],
            tokens=[len(asked) + tokens for tokens in documents_alone.tokens],
            truncated=[cut_query or cut for cut in documents_alone.truncated],
        )

    def forward(self, batch: Sequence[Encoded]) -> list[list[Score]]:
        if sum(encoded.cost for encoded in batch) > self._tokens_at_once:
            return [self._forward_in_parts(encoded) for encoded in batch]
        outputs = iter(self._engine.run_once([row for encoded in batch for row in encoded.rows]))
        scores: list[list[Score]] = []
        for encoded in batch:
            query = self._embed_query(next(outputs))
            documents = self._represented(encoded, encoded.rows[1:], outputs)
            values = self._compare(query, documents).tolist() if documents else []
            scores.append(self._scores(values, encoded))
        return scores

    def _forward_in_parts(self, encoded: Encoded) -> list[Score]:
        query = self._embed_query(self._engine.run_once(encoded.rows[:1])[0])
        values: list[float] = []
        for documents in self._represented_in_parts(encoded, encoded.rows[1:]):
            values += self._compare(query, documents).tolist()
        return self._scores(values, encoded)

    @property
    def _tokens_at_once(self) -> int:
        """Tokens whose hidden states are in memory at a time."""
        return max(TOKENS_AT_ONCE, self._engine.token_budget)

    def _represented_in_parts(
        self, encoded: Encoded, rows: Sequence[TokenRow]
    ) -> Iterator[list[Representation]]:
        """As `_represented`, for a few documents at a time."""
        known, first, row = encoded.extra["known"], 0, 0
        while first < len(known):
            last, end, tokens = first, row, 0
            while last < len(known) and (last == first or tokens <= self._tokens_at_once):
                if known[last] is None:
                    tokens += len(rows[end])
                    end += 1
                last += 1
            extra = {name: encoded.extra[name][row:end] for name in ("new", "cut")}
            part = replace(encoded, extra={"known": known[first:last], **extra})
            outputs = iter(self._engine.run_once(rows[row:end]))
            yield self._represented(part, rows[row:end], outputs)
            first, row = last, end

    def _encode_documents(self, documents: Sequence[str]) -> Encoded:
        """Rows of the documents that are not cached; tokens and truncation of all."""
        texts = [self._clean(document) for document in documents]
        known = self._documents.get_many(texts)
        new = [text for text, found in zip(texts, known, strict=True) if found is None]
        rows, cut = self._document_rows(new)
        each = iter(zip(rows, cut, strict=True))
        tokens, truncated = [], []
        for found in known:
            if found is not None:
                length, was_cut = found.tokens, found.truncated
            else:
                row, was_cut = next(each)
                length = len(row)
            tokens.append(length)
            truncated.append(was_cut)
        return Encoded(rows, tokens, truncated, {"known": known, "new": new, "cut": cut})

    def _represented(
        self, encoded: Encoded, rows: Sequence[TokenRow], outputs: Iterator[torch.Tensor]
    ) -> list[Representation]:
        """Each document's representation: cached, or made from its row's output and cached."""
        made = [
            self._represent(next(outputs), row, cut)
            for row, cut in zip(rows, encoded.extra["cut"], strict=True)
        ]
        for text, representation in zip(encoded.extra["new"], made, strict=True):
            self._documents.put(text, representation)
        new = iter(made)
        known = encoded.extra["known"]
        self._documents.count(
            hits=len(known) - len(made),
            misses=len(made),
            saved_tokens=sum(r.tokens for r in known if r is not None),
        )
        return [next(new) if r is None else r for r in known]

    def representation_stats(self) -> dict[str, int]:
        return self._documents.stats()
