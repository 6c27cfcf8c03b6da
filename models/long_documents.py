"""Documents longer than the model reads: truncated, or scored passage by passage.

A document gets the score of its best passage: MaxP of Dai and Callan, "Deeper Text Understanding
for IR with Contextual Neural Language Modeling" (SIGIR 2019), with overlapping passages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

from models.engine_stats import EngineStats
from models.images import ImageDocument, ImageError
from models.tokenizing import Spans, TextTokenizer
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

# Share of a passage that repeats the one before, so that no sentence is lost at a boundary.
OVERLAP = 0.125
MIN_PASSAGE_TOKENS = 16
# Maximum per document; of a longer one the beginning is scored, and it counts as truncated.
MAX_PASSAGES = 512
# Tokens reserved in addition to query and prompt, for special tokens and markers.
MARGIN_TOKENS = 8


class _Family(Protocol):
    """A family that may or may not read images."""

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
        self._text = TextTokenizer(tokenizer)

    @property
    def info(self) -> ModelInfo:
        return self._scorer.info

    @property
    def engine_stats(self) -> EngineStats:
        return self._scorer.engine_stats

    def encode(
        self, query: str, documents: Sequence[Document], options: ScoreOptions = DEFAULTS
    ) -> Encoded:
        """Encode with the family; a document split into passages counts as several documents.

        Raises ImageError for images if the model reads only text.
        """
        images = [d for d in documents if isinstance(d, ImageDocument)]
        if images and not self.info.takes_images:
            raise ImageError(f"the model {self.info.name} reads only text, not images")
        limit = options.max_tokens_per_doc or self.info.max_tokens_per_doc
        shortened = [False] * len(documents)
        if limit is not None:
            documents, shortened = self._shorten(documents, limit)
        mode: LongDocument = options.long_document or self.info.long_document
        if mode == "truncate" or self.info.listwise:
            encoded = self._scorer.encode(query, documents, options)
            cut = [a or b for a, b in zip(encoded.truncated, shortened, strict=True)]
            return replace(encoded, truncated=cut)
        split, cut = self._split(query, documents, options)
        encoded = self._scorer.encode(query, [p for passages in split for p in passages], options)
        counts = [len(passages) for passages in split]
        cut = [a or b for a, b in zip(cut, shortened, strict=True)]
        return replace(encoded, extra={**encoded.extra, "passages": (counts, cut)})

    def find_budget(self) -> None:
        """Find the fastest token budget on this machine and put it into `info`."""
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
        """Encode documents, cut to `max_tokens_per_doc`; a long one still gets a single vector."""
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
        short: list[Document] = []
        cut: list[bool] = []
        for document in documents:
            spans = self._spans(document, limit)
            text = isinstance(document, str) and spans.more
            short.append(document[: spans.ends[-1]] if text else document)  # type: ignore[index]
            cut.append(text)
        return short, cut

    def _split(
        self, query: str, documents: Sequence[Document], options: ScoreOptions
    ) -> tuple[list[list[Document]], list[bool]]:
        """Each document's passages, and which documents have more than MAX_PASSAGES."""
        if not documents:
            return [], []
        # An empty document's row shows how many tokens the query and the prompt take.
        around = self._scorer.encode(query, [""], options).tokens[0] + MARGIN_TOKENS
        if self.info.family in ("late-interaction", "bi-encoder"):
            around = MARGIN_TOKENS  # query and document are separate rows
        size = max(MIN_PASSAGE_TOKENS, self.info.max_length - around)
        step = max(1, round(size * (1 - OVERLAP)))
        split: list[list[Document]] = []
        cut: list[bool] = []
        for document in documents:
            spans = self._spans(document, (MAX_PASSAGES - 1) * step + size)
            cut.append(spans.more)
            if len(spans) <= size or not isinstance(document, str):
                split.append([document])
                continue
            # The last passage ends with the document; none lies wholly inside the one before it.
            starts = range(0, max(1, len(spans) - size + step), step)
            parts: list[Document] = [
                document[spans.starts[start] : spans.ends[min(start + size, len(spans)) - 1]]
                for start in starts
            ]
            split.append(parts)
        return split, cut

    def _spans(self, document: Document, tokens: int) -> Spans:
        """The document's first tokens; none for an image."""
        return self._text.spans(document, tokens) if isinstance(document, str) else Spans()


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
