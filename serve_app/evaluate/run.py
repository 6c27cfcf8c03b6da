"""Candidates by BM25, reranked over HTTP by a running service, measured side by side."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import bm25s
import httpx
from rich.console import Console
from rich.progress import Progress, TimeElapsedColumn
from rich.table import Table

from serve_app.evaluate.corpus import Corpus, build
from serve_app.evaluate.metrics import Rank, bootstrap_interval, mean, ndcg, reciprocal_rank

CANDIDATES = 50
TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Row:
    """One method's line of the report."""

    method: str
    mrr_at_10: float
    ndcg_at_10: float
    hit_at_1: float
    ms_per_query: float


class EvalError(Exception):
    """The evaluation can't go on; the message says why and what to do."""


def bm25_candidates(corpus: Corpus, queries: Sequence[int]) -> list[list[int]]:
    """For each query the indices of BM25's best documents, best first."""
    index = bm25s.BM25()
    index.index(
        bm25s.tokenize(list(corpus.documents), stopwords="en", show_progress=False),
        show_progress=False,
    )
    tokens = bm25s.tokenize(
        [corpus.queries[q] for q in queries], stopwords="en", show_progress=False
    )
    k = min(CANDIDATES, len(corpus.documents))
    found, _ = index.retrieve(tokens, k=k, show_progress=False)
    return [[int(i) for i in row] for row in found]


async def rerank_all(
    url: str,
    corpus: Corpus,
    queries: Sequence[int],
    candidates: Sequence[Sequence[int]],
    model: str | None,
    concurrency: int,
    on_progress: Callable[[], None],
    api_key: str | None = None,
) -> list[list[int]]:
    """The candidates in the service's order. Raises EvalError when it gives no answer."""
    limit = asyncio.Semaphore(concurrency)

    async def one(client: httpx.AsyncClient, query: int, found: Sequence[int]) -> list[int]:
        body = {"query": corpus.queries[query], "documents": [corpus.documents[i] for i in found]}
        if model is not None:
            body["model"] = model
        async with limit:
            answer = await client.post("/v1/rerank", json=body)
        if answer.status_code != 200:
            raise EvalError(f"{url} answered {answer.status_code}: {answer.text[:500]}")
        on_progress()
        return [found[hit["index"]] for hit in answer.json()["results"]]

    headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
    try:
        async with httpx.AsyncClient(
            base_url=url, headers=headers, timeout=TIMEOUT_S, trust_env=False
        ) as client:
            jobs = [one(client, q, found) for q, found in zip(queries, candidates, strict=True)]
            return await asyncio.gather(*jobs)
    except httpx.HTTPError as error:
        raise EvalError(
            f"nothing answers at {url} ({type(error).__name__}); start it by `rerank up`"
        ) from error


def _ranks(queries: Sequence[int], orders: Sequence[Sequence[int]]) -> list[Rank]:
    pairs = zip(queries, orders, strict=True)
    return [order.index(query) + 1 if query in order else None for query, order in pairs]


def _row(method: str, ranks: Sequence[Rank], seconds: float) -> Row:
    return Row(
        method=method,
        mrr_at_10=mean([reciprocal_rank(rank) for rank in ranks]),
        ndcg_at_10=mean([ndcg(rank) for rank in ranks]),
        hit_at_1=mean([reciprocal_rank(rank, 1) for rank in ranks]),
        ms_per_query=1000 * seconds / len(ranks),
    )


def run_eval(
    url: str,
    *,
    queries: int,
    corpus_size: int,
    seed: int,
    model: str | None = None,
    concurrency: int = 4,
    as_json: bool = False,
    output: Path | None = None,
    roots: Sequence[Path] | None = None,
    api_key: str | None = None,
) -> int:
    """Measure and print; returns the exit status."""
    console = Console(stderr=True)
    console.print(f"reading docstrings of installed packages (corpus of {corpus_size}) …")
    corpus = build(corpus_size, seed, roots)
    if len(corpus.documents) < 2:
        print("rerank: too few docstrings in the installed packages", file=sys.stderr)
        return 1
    everyone = range(len(corpus.queries))
    asked = random.Random(seed).sample(everyone, min(queries, len(corpus.queries)))
    started = time.perf_counter()
    candidates = bm25_candidates(corpus, asked)
    bm25_s = time.perf_counter() - started
    columns = (*Progress.get_default_columns(), TimeElapsedColumn())
    started = time.perf_counter()
    try:
        with Progress(*columns, console=console) as progress:
            task = progress.add_task(f"reranking at {url}", total=len(asked))
            orders = asyncio.run(
                rerank_all(
                    url,
                    corpus,
                    asked,
                    candidates,
                    model,
                    concurrency,
                    lambda: progress.advance(task),
                    api_key,
                )
            )
    except EvalError as error:
        print(f"rerank: {error}", file=sys.stderr)
        return 1
    before, after = _ranks(asked, candidates), _ranks(asked, orders)
    rows = [_row("BM25", before, bm25_s), _row("reranked", after, time.perf_counter() - started)]
    gains = [reciprocal_rank(b) - reciprocal_rank(a) for a, b in zip(before, after, strict=True)]
    low, high = bootstrap_interval(gains, seed)
    report = {
        "corpus": len(corpus.documents),
        "queries": len(asked),
        "candidates": CANDIDATES,
        "rows": [asdict(row) for row in rows],
        "mrr_gain": {"mean": mean(gains), "low": low, "high": high},
    }
    text = json.dumps(report, indent=2)
    if output is not None:
        output.write_text(text + "\n")
    if as_json:
        print(text)
    else:
        _print(rows, len(asked), len(corpus.documents), (mean(gains), low, high))
    return 0


def _print(rows: Sequence[Row], asked: int, size: int, gain: tuple[float, float, float]) -> None:
    table = Table(title=f"{asked} queries over {size} docstrings, BM25's top {CANDIDATES}")
    table.add_column("method")
    for name in ("MRR@10", "nDCG@10", "Hit@1", "ms/query"):
        table.add_column(name, justify="right")
    for row in rows:
        values = (row.mrr_at_10, row.ndcg_at_10, row.hit_at_1)
        table.add_row(row.method, *(f"{v:.3f}" for v in values), f"{row.ms_per_query:.1f}")
    console = Console()
    console.print(table)
    console.print("MRR@10 gain {:+.3f} (95% interval {:+.3f} to {:+.3f})".format(*gain))
