"""Documents longer than the model reads: cut, or scored passage by passage.

The best passage stands for its document: MaxP of Dai and Callan, "Deeper Text Understanding for
IR with Contextual Neural Language Modeling" (SIGIR 2019), with overlapping passages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

from models.engine_stats import EngineStats
from models.images import ImageDocument, ImageError
from models.types import (
    DEFAULTS,
    Document,
    Encoded,
    LongDocument,
    ModelInfo,
    Score,
    ScoreOptions,
)
from models.vectors import Vectors

# A passage repeats this share of the one before it, so that no sentence is lost at a seam.
OVERLAP = 0.125
MIN_PASSAGE_TOKENS = 16
# What a prompt or special tokens may take beside query and passage.
MARGIN_TOKENS = 8


class _Family(Protocol):
    """A family, which may or may not read images."""

    @property
    def info(self) -> ModelInfo: ...

    def encode(self, query: str, documents: Sequence[Any], options: ScoreOptions) -> Encoded: ...

    def forward(self, batch: Sequence[Encoded]) -> list[list[Score]]: ...

    @property
    def engine_stats(self) -> EngineStats: ...

    def encode_documents(self, documents: Sequence[Any], options: ScoreOptions) -> Encoded: ...

    def embed(self, encoded: Encoded) -> Vectors: ...

    def find_budget(self) -> None: ...

    def representation_stats(self) -> dict[str, int]: ...


class LongDocuments:
    """A scorer that honours `max_tokens_per_doc` and `long_document`."""

    def __init__(self, scorer: _Family, tokenizer: Any) -> None:
        self._scorer = scorer
        self._tokenizer = tokenizer

    @property
    def info(self) -> ModelInfo:
        return self._scorer.info

    @property
    def engine_stats(self) -> EngineStats:
        return self._scorer.engine_stats

    def encode(
        self, query: str, documents: Sequence[Document], options: ScoreOptions = DEFAULTS
    ) -> Encoded:
        """As the scorer's; a document in several passages has several rows' worth of scores."""
        images = [d for d in documents if isinstance(d, ImageDocument)]
        if images and not self.info.takes_images:
            raise ImageError(f"the model {self.info.name} reads text alone, no images")
        limit = options.max_tokens_per_doc or self.info.max_tokens_per_doc
        shortened = [False] * len(documents)
        if limit is not None:
            documents, shortened = self._shorten(documents, limit)
        mode: LongDocument = options.long_document or self.info.long_document
        if mode == "truncate" or self.info.listwise:
            encoded = self._scorer.encode(query, documents, options)
            cut = [a or b for a, b in zip(encoded.truncated, shortened, strict=True)]
            return replace(encoded, truncated=cut)
        split = self._split(query, documents, options)
        encoded = self._scorer.encode(query, [p for passages in split for p in passages], options)
        counts = [len(passages) for passages in split]
        return replace(encoded, extra={**encoded.extra, "passages": (counts, shortened)})

    def find_budget(self) -> None:
        """Find the token budget that is fastest here; `info` has it."""
        self._scorer.find_budget()

    def representation_stats(self) -> dict[str, int]:
        return self._scorer.representation_stats()

    def forward(self, batch: Sequence[Encoded]) -> list[list[Score]]:
        answers = self._scorer.forward(batch)
        return [
            _best(scores, *encoded.extra["passages"]) if "passages" in encoded.extra else scores
            for scores, encoded in zip(answers, batch, strict=True)
        ]

    def encode_documents(
        self, documents: Sequence[Document], options: ScoreOptions = DEFAULTS
    ) -> Encoded:
        """Documents cut to `max_tokens_per_doc`; one vector stands for all of a long one."""
        limit = options.max_tokens_per_doc or self.info.max_tokens_per_doc
        if limit is not None:
            documents, _ = self._shorten(documents, limit)
        return self._scorer.encode_documents(documents, options)

    def embed(self, encoded: Encoded) -> Vectors:
        return self._scorer.embed(encoded)

    def score(
        self, query: str, documents: Sequence[Document], options: ScoreOptions = DEFAULTS
    ) -> list[Score]:
        return self.forward([self.encode(query, documents, options)])[0]

    def _shorten(
        self, documents: Sequence[Document], limit: int
    ) -> tuple[list[Document], list[bool]]:
        spans = self._offsets(documents)
        ends = [s[limit - 1][1] if len(s) > limit else None for s in spans]
        short = [
            d[:end] if isinstance(d, str) else d for d, end in zip(documents, ends, strict=True)
        ]
        return short, [end is not None for end in ends]

    def _split(
        self, query: str, documents: Sequence[Document], options: ScoreOptions
    ) -> list[list[Document]]:
        if not documents:
            return []
        # What query and prompt take is seen from the shortest document.
        around = self._scorer.encode(query, [""], options).tokens[0] + MARGIN_TOKENS
        if self.info.family in ("late-interaction", "bi-encoder"):
            around = MARGIN_TOKENS  # query and document are rows of their own
        size = max(MIN_PASSAGE_TOKENS, self.info.max_length - around)
        step = max(1, round(size * (1 - OVERLAP)))
        split: list[list[Document]] = []
        for document, spans in zip(documents, self._offsets(documents), strict=True):
            # The last passage reaches the end; one wholly inside the one before is not made.
            starts = range(0, max(1, len(spans) - size + step), step)
            if len(spans) <= size or not isinstance(document, str):
                split.append([document])
                continue
            parts: list[Document] = [
                document[spans[start][0] : spans[min(start + size, len(spans)) - 1][1]]
                for start in starts
            ]
            split.append(parts)
        return split

    def _offsets(self, documents: Sequence[Document]) -> list[list[tuple[int, int]]]:
        """For each document, where each of its tokens stands in it; an image has none."""
        if not documents:
            return []
        texts = [document if isinstance(document, str) else "" for document in documents]
        full = self._tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)
        found: list[list[tuple[int, int]]] = full["offset_mapping"]
        return found


def _best(scores: Sequence[Score], counts: Sequence[int], shortened: Sequence[bool]) -> list[Score]:
    best: list[Score] = []
    start = 0
    for count, cut in zip(counts, shortened, strict=True):
        mine = scores[start : start + count]
        start += count
        top = max(mine, key=lambda score: score.logit)
        best.append(
            Score(
                logit=top.logit,
                tokens=sum(score.tokens for score in mine),
                truncated=cut or any(score.truncated for score in mine),
                passages=count,
            )
        )
    return best
