"""Ranking quality and cost of pipelines compared with single models, without Ray.

The corpus is built like that of `rerank eval`, but only from the standard library's docstrings,
which any Python has; the candidates are BM25's top 50.
Run: `make bench NAME=pipelines` (extras `embedded`, `eval`). Prints a Markdown table: MRR@10,
nDCG@10, pairs scored per query, and CPU time per query of all cores without caching.
"""

from __future__ import annotations

import argparse
import asyncio
import sysconfig
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from models.registry import load
from models.types import Document, ModelInfo, ModelSpec, Score, ScoreOptions
from models.vectors import Vectors
from serve_app.evaluate import docstrings, measures
from serve_app.evaluate.dataset import Dataset, Ranked
from serve_app.service.admission import Admission
from serve_app.service.cache import MemoryStore, NullStore, ScoreStore
from serve_app.service.catalog import Catalog
from serve_app.service.pipelines import Pipeline
from serve_app.service.rerank import RerankService
from serve_app.telemetry import Telemetry
from serve_app.types import RerankRequest

QUERIES, COST_QUERIES, CORPUS_SIZE, SEED = 150, 10, 2500, 0
ROWS: dict[str, list[dict[str, Any]]] = {
    "BM25": [{"rerank": "bm25"}],
    "bi-encoder": [{"rerank": "dense"}],
    "MaxSim": [{"rerank": "maxsim"}],
    "RRF of BM25 and bi-encoder": [{"fuse": ["bm25", "dense"]}],
    "RRF of BM25 and MaxSim": [{"fuse": ["bm25", "maxsim"]}],
    "top 20 of the first RRF, then MaxSim": [
        {"fuse": ["bm25", "dense"], "keep": 20},
        {"rerank": "maxsim"},
    ],
    "BM25's top 10, then MaxSim": [{"rerank": "bm25", "keep": 10}, {"rerank": "maxsim"}],
    "BM25's top 20, then MaxSim": [{"rerank": "bm25", "keep": 20}, {"rerank": "maxsim"}],
    "bi-encoder's top 10, then MaxSim": [{"rerank": "dense", "keep": 10}, {"rerank": "maxsim"}],
    "bi-encoder, MMR with λ 0.9": [{"mmr": "dense", "lambda": 0.9}],
    "bi-encoder, MMR with λ 0.7": [{"mmr": "dense", "lambda": 0.7}],
}


class Local:
    """A scorer in this process with the interface of a model's replicas."""

    def __init__(self, name: str, family: str) -> None:
        self._scorer = load(ModelSpec(name, family=family, backend="auto"))
        self._scorer.score("warm up", ["a document of a few words"] * 4)
        # One forward pass at a time, as in a replica.
        self._thread = ThreadPoolExecutor(1)
        self.pairs = 0

    async def info(self) -> ModelInfo:
        return self._scorer.info

    async def score(
        self, query: str, documents: Sequence[Document], options: ScoreOptions, *_: float
    ) -> list[Score]:
        self.pairs += len(documents)
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, self._scorer.score, query, documents, options
        )

    async def embed(
        self, documents: Sequence[Document], options: ScoreOptions, *_: float
    ) -> Vectors:
        encoded = self._scorer.encode_documents(documents, options)
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, self._scorer.embed, encoded
        )


async def run_stages(
    service: RerankService, stages: list[dict[str, Any]], data: Dataset, queries: Sequence[str]
) -> dict[str, Ranked]:
    """Run the stages for each query and return the resulting rankings."""
    pipeline = Pipeline.model_validate({"stages": stages})
    run: dict[str, Ranked] = {}
    for key in queries:
        names = [name for name, _ in data.candidates[key]]
        documents = tuple(data.texts[name] for name in names)
        found = await service.rerank(RerankRequest(data.queries[key], documents, pipeline=pipeline))
        run[key] = [(names[hit.index], hit.relevance_score) for hit in found.results]
    return run


async def measure(models: Mapping[str, Local], data: Dataset) -> None:
    """Measure quality over all queries with cached scores, and cost over a few without caching."""
    cached, cold = (serving(models, store) for store in (MemoryStore(2**28, 1e6), NullStore()))
    queries = [key for key, found in data.candidates.items() if found]
    some, metrics = queries[:COST_QUERIES], measures.parse(["RR@10", "nDCG@10"])
    print(f"{len(data.queries)} queries, {data.size} docstrings\n")
    print(
        "| ranking | MRR@10 | nDCG@10 | pairs per query | CPU ms per query |\n|---|---|---|---|---|"
    )
    for name, stages in ROWS.items():
        run = await run_stages(cached, stages, data, queries)
        values = measures.per_query(metrics, data.qrels, run)
        quality = " | ".join(f"{sum(v) / len(v):.3f}" for v in values.values())
        pairs, started = sum(model.pairs for model in models.values()), time.process_time()
        await run_stages(cold, stages, data, some)
        ms = 1000 * (time.process_time() - started) / len(some)
        pairs = sum(model.pairs for model in models.values()) - pairs
        print(f"| {name} | {quality} | {pairs / len(some):.0f} | {ms:.0f} |", flush=True)


def serving(models: Mapping[str, Local], store: ScoreStore) -> RerankService:
    return RerankService(
        catalog=Catalog(tuple(models), "maxsim", {}),
        replicas=models,
        store=store,
        admission=Admission(8, 8, 600),
        telemetry=Telemetry(),
        worker_timeout_s=600,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "queries",
        type=int,
        nargs="?",
        default=QUERIES,
        help="number of queries (default: %(default)s)",
    )
    limit = parser.parse_args().queries
    stdlib = Path(sysconfig.get_path("stdlib"))
    data = docstrings.read(
        CORPUS_SIZE, depth=50, limit=limit, seed=SEED, status=lambda text: None, roots=[stdlib]
    )
    models = {"dense": Local("dense", "bi-encoder"), "maxsim": Local("maxsim", "late-interaction")}
    asyncio.run(measure(models, data))


if __name__ == "__main__":
    main()
