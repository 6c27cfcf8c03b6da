"""Rankers, which order a query's documents, and the measurement of their cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Protocol

from serve_app.evaluate.dataset import Dataset, Ranked


@dataclass(frozen=True, slots=True)
class Ranking:
    """One query's documents as (index, score), most relevant first.

    A ranker may drop the least relevant documents. `pairs` is the number of documents scored in
    all stages together, `tokens` the number of tokens processed, None if unknown.
    """

    hits: Sequence[tuple[int, float]]
    pairs: int
    tokens: int | None = None


class Ranker(Protocol):
    """A model, a pipeline or a service. `rank` is called from up to `concurrency` threads."""

    @property
    def name(self) -> str:
        """The ranker's name in the results."""
        ...

    @property
    def concurrency(self) -> int: ...

    def rank(self, query: str, documents: Sequence[str]) -> Ranking:
        """Order the documents. Raises EvalError."""
        ...

    def close(self) -> None:
        """Release all resources; the ranker is not used again."""
        ...


@dataclass(frozen=True, slots=True)
class Source:
    """A ranker that is loaded only when needed, so that one model is in memory at a time."""

    name: str
    open: Callable[[], Ranker]


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of a ranking; None is unknown.

    `ms_per_query` is wall time divided by the number of queries, `latency_ms` the p50 and p95
    of single queries.
    """

    ms_per_query: float | None = None
    latency_ms: tuple[float, float] | None = None
    pairs: int | None = None
    tokens: int | None = None


def rank_all(
    ranker: Ranker, dataset: Dataset, on_query: Callable[[], None]
) -> tuple[dict[str, Ranked], Cost]:
    """Rank every query's candidates and measure the cost. Raises EvalError."""
    ids = {key: [name for name, _ in found] for key, found in dataset.candidates.items() if found}

    def one(key: str) -> tuple[str, Ranking, float]:
        started = time.perf_counter()
        found = ranker.rank(dataset.queries[key], [dataset.texts[name] for name in ids[key]])
        return key, found, 1000 * (time.perf_counter() - started)

    started = time.perf_counter()
    done: dict[str, tuple[Ranking, float]] = {}
    pool = ThreadPoolExecutor(ranker.concurrency, thread_name_prefix="evaluate")
    try:
        futures: list[Future[tuple[str, Ranking, float]]] = [pool.submit(one, key) for key in ids]
        for future in as_completed(futures):
            key, ranking, ms = future.result()
            done[key] = (ranking, ms)
            on_query()
    finally:
        # After a failure, cancel pending queries and wait for the running ones.
        pool.shutdown(cancel_futures=True)
    wall_ms = 1000 * (time.perf_counter() - started)
    run: dict[str, Ranked] = {
        key: [(names[i], score) for i, score in done[key][0].hits] for key, names in ids.items()
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
