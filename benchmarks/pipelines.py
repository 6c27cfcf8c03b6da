"""Ranking quality and cost of pipelines beside that of single models, in this process, without Ray.

    python -m benchmarks.pipelines [QUERIES]

The corpus is that of `rerank eval`: docstrings of the installed packages, of which each query has
BM25's top 50. Nothing is kept between queries, so that every pair is paid for.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Sequence
from typing import Any

from models.registry import load
from models.types import Document, ModelInfo, ModelSpec, Score, ScoreOptions
from models.vectors import Vectors
from serve_app.admission import Admission
from serve_app.cache import NullStore
from serve_app.catalog import Catalog
from serve_app.evaluate.corpus import Corpus, build
from serve_app.evaluate.metrics import Rank, mean, ndcg, reciprocal_rank
from serve_app.evaluate.run import bm25_candidates
from serve_app.pipelines import Pipeline
from serve_app.service import RerankService
from serve_app.telemetry import Telemetry
from serve_app.types import RerankRequest

QUERIES, CORPUS_SIZE, SEED = 150, 2500, 0
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
        self._scorer.find_budget()
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


async def measure(
    service: RerankService, models: Sequence[Local], corpus: Corpus, asked: Sequence[int]
) -> None:
    found = bm25_candidates(corpus, asked)
    print("| | MRR@10 | nDCG@10 | pairs a query | ms a query |\n|---|---|---|---|---|")
    for name, stages in ROWS.items():
        pipeline = Pipeline.model_validate({"stages": stages})
        before = sum(model.pairs for model in models)
        ranks: list[Rank] = []
        started = time.perf_counter()
        for query, candidates in zip(asked, found, strict=True):
            documents = tuple(corpus.documents[i] for i in candidates)
            request = RerankRequest(corpus.queries[query], documents, pipeline=pipeline)
            order = [candidates[hit.index] for hit in (await service.rerank(request)).results]
            ranks.append(order.index(query) + 1 if query in order else None)
        ms = 1000 * (time.perf_counter() - started) / len(asked)
        pairs = (sum(model.pairs for model in models) - before) / len(asked)
        quality = f"{mean([reciprocal_rank(r) for r in ranks]):.3f} | {mean([ndcg(r) for r in ranks]):.3f}"
        print(f"| {name} | {quality} | {pairs:.0f} | {ms:.0f} |", flush=True)


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else QUERIES
    corpus = build(CORPUS_SIZE, SEED)
    asked = random.Random(SEED).sample(range(len(corpus.queries)), min(count, len(corpus.queries)))
    models = {"dense": Local("dense", "bi-encoder"), "maxsim": Local("maxsim", "late-interaction")}
    service = RerankService(
        catalog=Catalog(tuple(models), "maxsim", {}),
        backends=models,
        store=NullStore(),
        admission=Admission(8, 8, 60),
        telemetry=Telemetry(),
    )
    asyncio.run(measure(service, list(models.values()), corpus, asked))


if __name__ == "__main__":
    main()
