"""The results a caller gets: ranked documents with their scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Generic, TypeVar, overload

from serve_app.client.spans import Span, highlight
from serve_app.errors import RerankError, installed_by

D = TypeVar("D")

_SHOWN_ROWS = 20
_SHOWN_CHARS = 72


@dataclass(frozen=True, slots=True)
class StageScore:
    """A document's score and rank (from 1) in one stage of a pipeline."""

    score: float
    rank: int


@dataclass(frozen=True, slots=True)
class Hit(Generic[D]):
    """A ranked document: its position in the caller's list, its score, and the original object.

    `spans`, if requested, are the parts that answer the query, best first. `stages` holds a
    pipeline's scores by stage name.
    """

    index: int
    score: float
    document: D
    text: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    spans: tuple[Span, ...] = ()
    stages: Mapping[str, StageScore] = field(default_factory=dict)

    def highlight(self, before: str = "**", after: str = "**") -> str:
        """Return the text with `before` and `after` around its spans; nothing is escaped."""
        return highlight(self.text, self.spans, before, after)


@dataclass(frozen=True, slots=True)
class BatchFailure:
    """A failed batch: the documents at `indices` have no score, because of `error`."""

    indices: range
    error: RerankError

    def __str__(self) -> str:
        return f"documents {self.indices.start} to {self.indices.stop - 1}: {self.error}"


@dataclass(frozen=True, repr=False)
class RerankResults(Sequence[Hit[D]], Generic[D]):
    """Hits by descending score; ties are ordered by index.

    `total` is the number of documents passed in, `requests` the number of successful requests
    (one shared by several queries counts for each of them). `tokens` covers every scored pair.
    `elapsed_ms` is the duration of the whole call.
    """

    query: str
    hits: tuple[Hit[D], ...]
    total: int
    model: str | None = None
    tokens: int = 0
    requests: int = 0
    elapsed_ms: float = 0.0
    failures: tuple[BatchFailure, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def documents(self) -> list[D]:
        """The documents, best first."""
        return [hit.document for hit in self.hits]

    @property
    def failed_indices(self) -> list[int]:
        return [index for failure in self.failures for index in failure.indices]

    def raise_for_failures(self) -> None:
        """Raise the first failed batch's error, if any."""
        for failure in self.failures:
            raise failure.error

    def in_order(self) -> list[float]:
        """Return scores in the documents' order. Raises ValueError if a document has none."""
        by_index = {hit.index: hit.score for hit in self.hits}
        if len(by_index) != self.total:
            missing = self.total - len(by_index)
            raise ValueError(f"{missing} of {self.total} documents have no score")
        return [by_index[index] for index in range(self.total)]

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return each hit as a dict: rank (from 1), index, score, text and metadata.

        If any hit has spans, each dict also has `spans`: a list of start, end and score.
        """
        return [
            {
                "rank": rank,
                "index": hit.index,
                "score": hit.score,
                "text": hit.text,
                "metadata": dict(hit.metadata),
                **({"spans": [asdict(span) for span in hit.spans]} if self._has_spans else {}),
            }
            for rank, hit in enumerate(self.hits, 1)
        ]

    def to_pandas(self) -> Any:
        """Return a frame with one row per hit: index, score, text, then each metadata key.

        If any hit has spans, they are a column before the metadata. The frame's own index is
        the rank, from 1. Raises ModuleNotFoundError if pandas is not installed.
        """
        with installed_by("clients"):
            import pandas as pd

        own = ("index", "score", "text", *(("spans",) if self._has_spans else ()))
        rows = [
            {
                **{name: getattr(hit, name) for name in own},
                **{f"meta_{k}" if k in own else k: v for k, v in hit.metadata.items()},
            }
            for hit in self.hits
        ]
        ranks = pd.RangeIndex(1, len(rows) + 1, name="rank")
        return pd.DataFrame(rows, index=ranks, columns=None if rows else list(own))

    @property
    def _has_spans(self) -> bool:
        return any(hit.spans for hit in self.hits)

    def __len__(self) -> int:
        return len(self.hits)

    def __iter__(self) -> Iterator[Hit[D]]:
        return iter(self.hits)

    @overload
    def __getitem__(self, at: int) -> Hit[D]: ...

    @overload
    def __getitem__(self, at: slice) -> tuple[Hit[D], ...]: ...

    def __getitem__(self, at: int | slice) -> Hit[D] | tuple[Hit[D], ...]:
        return self.hits[at]

    def __repr__(self) -> str:
        # At a prompt or in a notebook, show the same table as `print`, not every field.
        return str(self)

    def __str__(self) -> str:
        """Return a table of the best hits, one per line."""
        lines = [f"{len(self.hits)} of {self.total} documents for {_line(self.query)!r}"]
        if self.model:
            lines[0] += f", by {self.model}"
        if self.hits:
            lines.append("rank  index    score  text")
        for rank, hit in enumerate(self.hits[:_SHOWN_ROWS], 1):
            lines.append(f"{rank:4}  {hit.index:5}  {hit.score:7.4f}  {_line(hit.text)}")
            lines += [
                f"{'':13}{span.score:7.4f}  > {_line(span.of(hit.text))}" for span in hit.spans
            ]
        if (more := len(self.hits) - _SHOWN_ROWS) > 0:
            lines.append(f"… and {more} more")
        lines += [f"failed: {failure}" for failure in self.failures]
        lines += [f"warning: {warning}" for warning in self.warnings]
        return "\n".join(lines)


def _line(text: str) -> str:
    # Split only as much as can be shown: a document may be very long.
    line = " ".join(text[: 4 * _SHOWN_CHARS].split())
    return line if len(line) <= _SHOWN_CHARS else line[: _SHOWN_CHARS - 1] + "…"
