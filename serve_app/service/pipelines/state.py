"""The state of a pipeline between two stages: the remaining documents and their scores."""

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
    """A document's score as reported, its raw score, and the explanation."""

    shown: float
    raw: float
    explanation: str = ""


class State:
    """The remaining documents of one request.

    `order`: their indices, best first. `scored`: their scores by index. `bounded`: whether the
    scores are a model's relevance in [0, 1].
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

    def add_result(self, result: RerankResult, order: Sequence[int]) -> dict[int, Scored]:
        """Add up a model's tokens and timings; return its scores by the request's own indices."""
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

    def record_ranking(self, label: str, found: Mapping[int, Scored]) -> list[int]:
        """Record a ranking for the report and return its order, ties by index."""
        order = sorted(found, key=lambda i: (-found[i].raw, i))
        self._record_scores(label, [(i, self._reported(found[i])) for i in order])
        return order

    def order_by(self, label: str, found: Mapping[int, Scored], *, bounded: bool) -> None:
        """Order by these scores; every remaining document has one."""
        self.order = self.record_ranking(label, found)
        self.scored = dict(found)
        self.bounded = bounded

    def set_order(self, label: str, chosen: Sequence[tuple[int, float]]) -> None:
        """Set the order, with a non-increasing score for each document."""
        self._record_scores(label, chosen)
        self.order = [i for i, _ in chosen]
        self.scored = {i: Scored(v, v, self.scored[i].explanation) for i, v in chosen}
        self.bounded = False

    def put_first(self, label: str, found: Mapping[int, Scored]) -> None:
        """Put the documents scored by an interrupted stage before the others.

        The others keep their order. Their scores are capped at the lowest score before them,
        because the order and the scores of a result must agree.
        """
        if not found:
            return
        first = self.record_ranking(label, found)
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
        """Return the result of the request."""
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

    def _reported(self, scored: Scored) -> float:
        return scored.raw if self._request.raw_scores else scored.shown

    def _record_scores(self, label: str, ranking: Sequence[tuple[int, float]]) -> None:
        self._labels[label] += 1
        name = label if self._labels[label] == 1 else f"{label}-{self._labels[label]}"
        for rank, (i, score) in enumerate(ranking, 1):
            self._stages.setdefault(i, {})[name] = StageScore(score, rank)
