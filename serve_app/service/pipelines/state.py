"""What a pipeline knows of a request's documents between two stages."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from serve_app.types import (
    PipelineReport,
    RankedDocument,
    RerankRequest,
    RerankResult,
    StageReport,
    StageScore,
)


@dataclass(frozen=True, slots=True)
class Scored:
    """A document's score as it is shown, raw, and the reason for it."""

    shown: float
    raw: float
    explanation: str = ""


class State:
    """`order`: indices of the documents that are left, best first; `scored`: by what.

    `bounded`: whether the scores are a model's relevance in [0, 1].
    """

    def __init__(self, request: RerankRequest) -> None:
        self.order = list(range(len(request.documents)))
        self.scored: dict[int, Scored] = {}
        self.bounded = False
        self._request = request
        self._stages: dict[int, dict[str, StageScore]] = {}
        self._labels: Counter[str] = Counter()
        self._reports: list[StageReport] = []
        self._tokens = 0
        self._cached_tokens = 0
        self._truncated: set[int] = set()
        self._passages: dict[int, int] = {}
        self._timings: dict[str, float] = {}

    def take(self, result: RerankResult, order: Sequence[int]) -> dict[int, Scored]:
        """A model's scores by the request's own indices; what they took is added up."""
        self._tokens += result.tokens
        self._cached_tokens += result.cached_tokens
        self._truncated.update(order[i] for i in result.truncated)
        self._passages.update({order[i]: n for i, n in result.passages.items()})
        for name, ms in result.timings_ms.items():
            self._timings[name] = self._timings.get(name, 0.0) + ms
        return {
            order[hit.index]: Scored(hit.relevance_score, hit.logit, hit.explanation)
            for hit in result.results
        }

    def record(self, label: str, found: Mapping[int, Scored]) -> list[int]:
        """Keep a ranking for the answer; gives its order. Equal scores: by index."""
        order = sorted(found, key=lambda i: (-found[i].raw, i))
        self._keep(label, [(i, self._value(found[i])) for i in order])
        return order

    def rank_by(self, label: str, found: Mapping[int, Scored], *, bounded: bool) -> None:
        """Order by these scores, which all that is left has."""
        self.order = self.record(label, found)
        self.scored = dict(found)
        self.bounded = bounded

    def choose(self, label: str, chosen: Sequence[tuple[int, float]]) -> None:
        """Take an order as it is, with a value for each document that never rises."""
        self._keep(label, chosen)
        self.order = [i for i, _ in chosen]
        self.scored = {i: Scored(v, v, self.scored[i].explanation) for i, v in chosen}
        self.bounded = False

    def put_first(self, label: str, found: Mapping[int, Scored]) -> None:
        """Put documents with a later stage's score before the others.

        The others keep their order, and their scores as far as those stay below: an answer's
        order and its scores must agree.
        """
        if not found:
            return
        first = self.record(label, found)
        lowest = found[first[-1]]
        rest = [i for i in self.order if i not in found]
        for i in rest:
            own = self.scored[i]
            self.scored[i] = Scored(
                min(own.shown, lowest.shown), min(own.raw, lowest.raw), own.explanation
            )
        self.scored |= found
        self.order = first + rest

    def drop_below(self, threshold: float) -> None:
        self.order = [i for i in self.order if self.scored[i].shown >= threshold]

    def cut(self, keep: int | None) -> None:
        del self.order[len(self.order) if keep is None else keep :]

    def report(self, label: str, before: int, seconds: float) -> None:
        self._reports.append(StageReport(label, before, len(self.order), seconds * 1000))

    def result(
        self, name: str, stopped: str | None, warnings: tuple[str, ...], seconds: float
    ) -> RerankResult:
        """The answer to the request."""
        request = self._request
        order = self.order[: request.top_n]
        if not request.sort:
            order.sort()
        originals = request.originals or request.documents
        return RerankResult(
            id=str(uuid.uuid4()),
            model=name,
            results=tuple(
                RankedDocument(
                    index=i,
                    relevance_score=self.scored[i].shown,
                    logit=self.scored[i].raw,
                    document=originals[i],
                    explanation=self.scored[i].explanation,
                    stages=self._stages.get(i, {}),
                )
                for i in order
            ),
            tokens=self._tokens,
            cached_tokens=self._cached_tokens,
            truncated=tuple(sorted(self._truncated)),
            passages=self._passages,
            timings_ms={**self._timings, "total": seconds * 1000},
            requested_model=request.model,
            pipeline=PipelineReport(tuple(self._reports), stopped),
            warnings=warnings,
        )

    def _value(self, scored: Scored) -> float:
        return scored.raw if self._request.raw_scores else scored.shown

    def _keep(self, label: str, ranking: Sequence[tuple[int, float]]) -> None:
        self._labels[label] += 1
        name = label if self._labels[label] == 1 else f"{label}-{self._labels[label]}"
        for rank, (i, score) in enumerate(ranking, 1):
            self._stages.setdefault(i, {})[name] = StageScore(score, rank)
