"""The base class of families: model info, text cleaning, tokenising, checked scores."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from models.checkpoint import Checkpoint
from models.engine_stats import EngineStats
from models.engines import Engine
from models.text import normalize, well_formed
from models.tokenizing import TextTokenizer
from models.types import (
    DEFAULTS,
    Activation,
    Encoded,
    ModelInfo,
    Score,
    ScoreOptions,
    ScoringError,
    TokenRow,
)
from models.vectors import Vectors


class Family(ABC):
    """A loaded model: turns text into token rows, and the engine's outputs into scores."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        engine: Engine,
        *,
        family: str,
        max_length: int,
        activation: Activation,
        normalize_text: bool = False,
        **more: Any,
    ) -> None:
        spec = checkpoint.spec
        wanted = spec.normalize_text
        self._tokenizer = checkpoint.tokenizer
        self._text = TextTokenizer(checkpoint.tokenizer)
        self._engine = engine
        self.info = ModelInfo(
            name=spec.name,
            source=spec.source,
            revision=checkpoint.revision,
            family=family,
            backend=engine.name,
            device=engine.device,
            dtype=engine.dtype,
            max_length=max_length,
            activation=activation,
            normalize_text=normalize_text if wanted is None else wanted,
            token_budget=engine.token_budget,
            max_tokens_per_doc=spec.max_tokens_per_doc,
            long_document=spec.long_document,
            **more,
        )

    @property
    def engine_stats(self) -> EngineStats:
        """Counts and distributions of what the engine has run."""
        return self._engine.stats

    def find_budget(self) -> None:
        """Find the fastest token budget on this machine and put it into `info`."""
        self._engine.find_budget(self.info.max_length)
        self.info = replace(self.info, token_budget=self._engine.token_budget)

    @abstractmethod
    def encode(
        self, query: str, documents: Sequence[str], options: ScoreOptions = DEFAULTS
    ) -> Encoded:
        """Tokenise a query and its documents."""

    @abstractmethod
    def forward(self, batch: Sequence[Encoded]) -> list[list[Score]]:
        """Score each encoded request. Raises ScoringError if a score is not finite."""

    def representation_stats(self) -> dict[str, int]:
        """Statistics of the cache of documents' representations; empty if there is none."""
        return {}

    def score(
        self, query: str, documents: Sequence[str], options: ScoreOptions = DEFAULTS
    ) -> list[Score]:
        """Encode and score in one call."""
        return self.forward([self.encode(query, documents, options)])[0]

    def encode_documents(
        self, documents: Sequence[str], options: ScoreOptions = DEFAULTS
    ) -> Encoded:
        """Tokenise documents without a query. Raises ScoringError if the model does not embed."""
        raise ScoringError(f"{self.info.name} gives no embeddings")

    def embed(self, encoded: Encoded) -> Vectors:
        """Vectors [documents, hidden]. Raises ScoringError if the model does not embed."""
        raise ScoringError(f"{self.info.name} gives no embeddings")

    def _clean(self, text: str) -> str:
        return normalize(text) if self.info.normalize_text else well_formed(text)

    def _tokenize(self, texts: Iterable[str], max_length: int) -> tuple[list[TokenRow], list[bool]]:
        """Rows, and which texts were truncated. A text without tokens becomes a padding token."""
        return self._made(self._text.rows(texts, max_length))

    def _tokenize_pairs(
        self, query: str, documents: Sequence[str], max_length: int
    ) -> tuple[list[TokenRow], list[bool]]:
        """Rows of query and document, and which were truncated, the longer text first."""
        return self._made(self._text.pairs(query, documents, max_length))

    def _made(
        self, found: Iterable[tuple[list[int], list[int], bool]]
    ) -> tuple[list[TokenRow], list[bool]]:
        typed = "token_type_ids" in self._tokenizer.model_input_names
        rows, truncated = [], []
        for ids, types, cut in found:
            ids, types = (ids, types) if ids else ([self._engine.pad_token_id], [0])
            rows.append(TokenRow(ids, types if typed else None))
            truncated.append(cut)
        return rows, truncated

    def _ids(self, text: str) -> list[int]:
        """Token ids of a part of a prompt, without added special tokens."""
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _scores(self, values: Sequence[float], encoded: Encoded) -> list[Score]:
        if not all(map(math.isfinite, values)):
            raise ScoringError(
                f"{self.info.name} returned a score that is not finite; try "
                "RERANKER_QUANTIZATION=fp32, or check the checkpoint's weights"
            )
        parts = zip(values, encoded.tokens, encoded.truncated, strict=True)
        return [Score(*part) for part in parts]
