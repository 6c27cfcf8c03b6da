"""What embedding families share: query and document are embedded apart, and documents are kept."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch

from models.checkpoint import Checkpoint
from models.engines import Engine
from models.families.base import Family
from models.representations import Representation, Representations
from models.types import DEFAULTS, Encoded, Score, ScoreOptions, TokenRow


class Embedding(Family):
    """The query's row is run for each request, a document's only while it is not known."""

    def __init__(
        self, checkpoint: Checkpoint, engine: Engine, *, detail: str = "", **more: Any
    ) -> None:
        self._documents = Representations(checkpoint.spec.representation_cache_bytes)
        if self._documents.enabled:
            # Scores differ a little from those without rounding: their keys must differ too.
            detail = ", ".join(filter(None, [detail, "float16 documents"]))
        super().__init__(checkpoint, engine, detail=detail, **more)

    @abstractmethod
    def _query_row(self, query: str) -> tuple[TokenRow, bool]:
        """The clean query's row, and whether it was cut."""

    @abstractmethod
    def _document_rows(self, documents: Sequence[str]) -> tuple[list[TokenRow], list[bool]]:
        """The clean documents' rows, and which of them were cut."""

    @abstractmethod
    def _embed_query(self, output: torch.Tensor) -> torch.Tensor:
        """What stands for the query, of its hidden states [tokens, hidden]."""

    @abstractmethod
    def _represent(self, output: torch.Tensor, row: TokenRow, truncated: bool) -> Representation:
        """What stands for a document, of its hidden states [tokens, hidden]."""

    @abstractmethod
    def _compare(self, query: torch.Tensor, documents: Sequence[Representation]) -> torch.Tensor:
        """Raw scores [documents], of one at least."""

    def encode(
        self, query: str, documents: Sequence[str], options: ScoreOptions = DEFAULTS
    ) -> Encoded:
        """The query's row, then one for each document that is not known.

        Tokens are counted for known documents too: what a request is said to take does not depend
        on what was asked before.
        """
        asked, cut_query = self._query_row(self._clean(query))
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
            tokens.append(len(asked) + length)
            truncated.append(cut_query or was_cut)
        extra = {"known": known, "new": new, "cut": cut}
        return Encoded([asked, *rows], tokens, truncated, extra)

    def forward(self, batch: Sequence[Encoded]) -> list[list[Score]]:
        outputs = iter(self._engine.run_once([row for encoded in batch for row in encoded.rows]))
        scores: list[list[Score]] = []
        for encoded in batch:
            query = self._embed_query(next(outputs))
            made = [
                self._represent(next(outputs), row, cut)
                for row, cut in zip(encoded.rows[1:], encoded.extra["cut"], strict=True)
            ]
            for text, representation in zip(encoded.extra["new"], made, strict=True):
                self._documents.put(text, representation)
            new = iter(made)
            documents = [next(new) if r is None else r for r in encoded.extra["known"]]
            values = self._compare(query, documents).tolist() if documents else []
            scores.append(self._scores(values, encoded))
            self._documents.count(
                hits=len(documents) - len(made),
                misses=len(made),
                saved_tokens=sum(r.tokens for r in encoded.extra["known"] if r is not None),
            )
        return scores

    def stats(self) -> dict[str, int]:
        return self._documents.stats()
