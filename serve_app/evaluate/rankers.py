"""What is compared: anything that orders a query's documents and says what that took."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Protocol

from serve_app.evaluate.dataset import Dataset, Ranked


@dataclass(frozen=True, slots=True)
class Ranking:
    """One query's documents: (index, score) by falling relevance.

    A ranker may leave documents out, at the end. `tokens`: what it took; None is not known.
    `pairs`: how many documents were scored, by all stages together.
    """

    hits: Sequence[tuple[int, float]]
    pairs: int
    tokens: int | None = None


class Ranker(Protocol):
    """A model, a pipeline, a service. `rank` is called from `concurrency` threads at once."""

    @property
    def name(self) -> str:
        """How results call it."""
        ...

    @property
    def concurrency(self) -> int: ...

    def rank(self, query: str, documents: Sequence[str]) -> Ranking:
        """Order the documents. Raises EvalError, with what to do."""
        ...

    def close(self) -> None:
        """Give back what it holds; it is not used again."""
        ...


@dataclass(frozen=True, slots=True)
class Source:
    """A ranker that is loaded when its turn comes, so that one model is in memory at a time."""

    name: str
    open: Callable[[], Ranker]


@dataclass(frozen=True, slots=True)
class Cost:
    """What a ranking took. `ms_per_query`: wall time by the number of queries; None: not known.

    `latency_ms`: how long one query took, in the middle (p50) and at its worst twentieth (p95).
    """

    ms_per_query: float | None = None
    latency_ms: tuple[float, float] | None = None
    pairs: int | None = None
    tokens: int | None = None


def rank_all(
    ranker: Ranker, dataset: Dataset, on_query: Callable[[], None]
) -> tuple[dict[str, Ranked], Cost]:
    """Every query's documents in the ranker's order, and what it took. Raises what `rank` does."""
    asked = {key: [name for name, _ in found] for key, found in dataset.candidates.items() if found}

    def one(key: str) -> tuple[str, Ranking, float]:
        started = time.perf_counter()
        found = ranker.rank(dataset.queries[key], [dataset.texts[name] for name in asked[key]])
        return key, found, 1000 * (time.perf_counter() - started)

    started = time.perf_counter()
    done: dict[str, tuple[Ranking, float]] = {}
    pool = ThreadPoolExecutor(ranker.concurrency, thread_name_prefix="evaluate")
    try:
        futures: list[Future[tuple[str, Ranking, float]]] = [pool.submit(one, key) for key in asked]
        for future in as_completed(futures):
            key, ranking, ms = future.result()
            done[key] = (ranking, ms)
            on_query()
    finally:
        # What has not begun is dropped where one has failed; what is in flight ends.
        pool.shutdown(cancel_futures=True)
    wall_ms = 1000 * (time.perf_counter() - started)
    run: dict[str, Ranked] = {
        key: [(names[i], score) for i, score in done[key][0].hits] for key, names in asked.items()
    }
    return run, _cost(list(done.values()), wall_ms)


def _cost(done: Sequence[tuple[Ranking, float]], wall_ms: float) -> Cost:
    times = sorted(ms for _, ms in done)
    counts = [ranking.tokens for ranking, _ in done if ranking.tokens is not None]
    return Cost(
        ms_per_query=wall_ms / len(done),
        latency_ms=(times[len(times) // 2], times[min(len(times) - 1, int(0.95 * len(times)))]),
        pairs=sum(ranking.pairs for ranking, _ in done),
        tokens=sum(counts) if len(counts) == len(done) else None,
    )
