"""Ranking quality and cost of pipelines beside that of single models, in this process, without Ray.

    python -m benchmarks.pipelines [QUERIES]

The corpus is made as that of `rerank eval`, of the standard library's docstrings alone, which any
Python has; each query has BM25's top 50. Cost is processor time, of all cores, where nothing is
known from before.
"""

from __future__ import annotations

import asyncio
import random
import sys
import sysconfig
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from models.registry import load
from models.types import Document, ModelInfo, ModelSpec, Score, ScoreOptions
from models.vectors import Vectors
from serve_app.admission import Admission
from serve_app.cache import MemoryStore, NullStore, ScoreStore
from serve_app.catalog import Catalog
from serve_app.evaluate.corpus import Corpus, build
from serve_app.evaluate.metrics import Rank, mean, ndcg, reciprocal_rank
from serve_app.evaluate.run import bm25_candidates
from serve_app.pipelines import Pipeline
from serve_app.service import RerankService
from serve_app.telemetry import Telemetry
from serve_app.types import RerankRequest

QUERIES, COST_QUERIES, CORPUS_SIZE, SEED = 150, 10, 2500, 0
ROWS: dict[str, list[dict[str, Any]]] = {
    "BM25": [{"rerank": "bm25"}],
    "bi-encoder": [{"rerank": "dense"}],
    "MaxSim": [{"rerank": "maxsim"}],
    "RRF of BM25 and bi-encoder": [{"fuse": ["bm25", "dense"]}],
    "RRF of BM25 and MaxSim": [{"fuse": ["bm25", "maxsim"]}],
    "the first RRF's top 20, MaxSim": [
        {"fuse": ["bm25", "dense"], "keep": 20},
        {"rerank": "maxsim"},
    ],
    "BM25's top 10, MaxSim": [{"rerank": "bm25", "keep": 10}, {"rerank": "maxsim"}],
    "BM25's top 20, MaxSim": [{"rerank": "bm25", "keep": 20}, {"rerank": "maxsim"}],
    "bi-encoder's top 10, MaxSim": [{"rerank": "dense", "keep": 10}, {"rerank": "maxsim"}],
    "bi-encoder, MMR with λ 0.9": [{"mmr": "dense", "lambda": 0.9}],
    "bi-encoder, MMR with λ 0.7": [{"mmr": "dense", "lambda": 0.7}],
}


class Local:
    """A scorer of this process as the service sees a model's replicas."""

    def __init__(self, name: str, family: str) -> None:
        self._scorer = load(ModelSpec(name, family=family, backend="auto"))
        self._scorer.score("warm up", ["a document of a few words"] * 4)
        self.pairs = 0

    async def info(self) -> ModelInfo:
        return self._scorer.info

    async def score(
        self, query: str, documents: Sequence[Document], options: ScoreOptions, *_: float
    ) -> list[Score]:
        self.pairs += len(documents)
        return await asyncio.to_thread(self._scorer.score, query, documents, options)

    async def embed(
        self, documents: Sequence[Document], options: ScoreOptions, *_: float
    ) -> Vectors:
        encoded = self._scorer.encode_documents(documents, options)
        return await asyncio.to_thread(self._scorer.embed, encoded)


async def ranks_of(
    service: RerankService,
    stages: list[dict[str, Any]],
    corpus: Corpus,
    found: Mapping[int, Sequence[int]],
) -> list[Rank]:
    """The right answer's rank for each query, whose candidates are in `found`."""
    pipeline = Pipeline.model_validate({"stages": stages})
    ranks: list[Rank] = []
    for query, candidates in found.items():
        documents = tuple(corpus.documents[i] for i in candidates)
        request = RerankRequest(corpus.queries[query], documents, pipeline=pipeline)
        order = [candidates[hit.index] for hit in (await service.rerank(request)).results]
        ranks.append(order.index(query) + 1 if query in order else None)
    return ranks


async def measure(
    models: Mapping[str, Local], corpus: Corpus, found: Mapping[int, Sequence[int]]
) -> None:
    """Quality over all queries, with scores kept between rows; cost over some, with none kept."""
    kept, cold = (serving(models, store) for store in (MemoryStore(2**28, 1e6), NullStore()))
    some = dict(list(found.items())[:COST_QUERIES])
    print(f"{len(found)} queries over {len(corpus.documents)} docstrings\n")
    print("| | MRR@10 | nDCG@10 | pairs a query | processor ms a query |\n|---|---|---|---|---|")
    for name, stages in ROWS.items():
        ranks = await ranks_of(kept, stages, corpus, found)
        pairs, started = sum(model.pairs for model in models.values()), time.process_time()
        await ranks_of(cold, stages, corpus, some)
        ms = 1000 * (time.process_time() - started) / len(some)
        pairs = sum(model.pairs for model in models.values()) - pairs
        mrr, gain = mean([reciprocal_rank(r) for r in ranks]), mean([ndcg(r) for r in ranks])
        cost = f"{pairs / len(some):.0f} | {ms:.0f}"
        print(f"| {name} | {mrr:.3f} | {gain:.3f} | {cost} |", flush=True)


def serving(models: Mapping[str, Local], store: ScoreStore) -> RerankService:
    return RerankService(
        catalog=Catalog(tuple(models), "maxsim", {}),
        backends=models,
        store=store,
        admission=Admission(8, 8, 600),
        telemetry=Telemetry(),
        worker_timeout_s=600,
    )


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else QUERIES
    corpus = build(CORPUS_SIZE, SEED, [Path(sysconfig.get_path("stdlib"))])
    asked = random.Random(SEED).sample(range(len(corpus.queries)), min(count, len(corpus.queries)))
    found = dict(zip(asked, bm25_candidates(corpus, asked), strict=True))
    models = {"dense": Local("dense", "bi-encoder"), "maxsim": Local("maxsim", "late-interaction")}
    asyncio.run(measure(models, corpus, found))


if __name__ == "__main__":
    main()
