"""The service's models as stages ask for them: by its own way for a single one."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

from models.concurrency import gather_or_cancel
from models.pipelines import lexical
from models.types import DEFAULTS, Document, ModelInfo, ScoreOptions
from models.vectors import Vectors
from serve_app.errors import InvalidRequest
from serve_app.pipeline_spec import BM25, Pipeline
from serve_app.service.admission import Admission
from serve_app.service.capabilities import WISHES, check, taken
from serve_app.service.catalog import Catalog
from serve_app.service.deadline import Deadline
from serve_app.types import RerankRequest, RerankResult

# Documents of one call for vectors: a replica has other calls to answer.
EMBEDDED_AT_ONCE = 256

Rank = Callable[[str, RerankRequest, dict[str, float], float], Awaitable[RerankResult]]


NO_BM25 = "bm25 is not installed here: pip install 'rerank-serve[pipelines]'"


class Models(Protocol):
    """The models that are served; names may be aliases. All raise a RerankError."""

    def single(self, name: str) -> str:
        """The model's own name. Raises UnknownModel; InvalidRequest where it is a pipeline."""
        ...

    async def rank(self, name: str, request: RerankRequest) -> RerankResult:
        """A single model's ranking, or that of the one that stands in for it."""
        ...

    async def info(self, name: str) -> ModelInfo: ...

    async def embed(self, name: str, request: RerankRequest) -> Vectors:
        """Vectors [documents, hidden] of the request's documents."""
        ...


class Embedder(Protocol):
    """One model's replicas, as far as this needs them."""

    async def info(self) -> ModelInfo: ...

    async def embed(self, documents: list[Document], options: ScoreOptions) -> Vectors: ...


class Served:
    """Ranks, describes and embeds by name.

    A stage takes a slot of the service's admission only while its pairs are scored, and a
    pipeline none: requests can't wait for each other's slots with one in their hands.
    """

    def __init__(
        self,
        catalog: Catalog,
        pipelines: Mapping[str, Pipeline],
        backends: Mapping[str, Embedder],
        admission: Admission,
        *,
        rank: Rank,
        answer: Callable[[str, Callable[[float], Awaitable[Any]], Deadline], Awaitable[Any]],
    ) -> None:
        """`rank` ranks by a single model; `answer` calls a replica with retries and a deadline."""
        self._catalog = catalog
        self._pipelines = pipelines
        self._backends = backends
        self._admission = admission
        self._rank = rank
        self._answer = answer

    def single(self, name: str) -> str:
        """The model's own name. Raises UnknownModel; InvalidRequest where it is a pipeline."""
        found = self._catalog.resolve(name)
        if found in self._pipelines:
            raise InvalidRequest(f"{name!r} is a pipeline; a stage names a model", param="pipeline")
        return found

    async def rank(self, name: str, request: RerankRequest) -> RerankResult:
        """A single model's ranking, or that of the one that stands in for it."""
        return await self._rank(self.single(name), request, {}, time.perf_counter())

    async def info(self, name: str) -> ModelInfo:
        name = self.single(name)
        info: ModelInfo = await self._answer(
            name, lambda _: self._backends[name].info(), Deadline()
        )
        return info

    async def embed(self, name: str, request: RerankRequest) -> Vectors:
        """Vectors [documents, hidden]. Raises InvalidRequest where the model has no embeddings."""
        name = self.single(name)
        info = await self.info(name)
        if not info.embeds:
            raise InvalidRequest(
                f"mmr needs a bi-encoder here; the model {name!r} ({info.family}) gives no "
                "embeddings",
                param="pipeline",
            )
        check(info, request)
        documents, backend = list(request.documents), self._backends[name]
        parts = [
            documents[i : i + EMBEDDED_AT_ONCE] for i in range(0, len(documents), EMBEDDED_AT_ONCE)
        ]
        async with self._admission.slot(priority=request.priority):
            until = Deadline(request.deadline)

            async def one(part: list[Document]) -> Vectors:
                ask = partial(backend.embed, part, request.options)
                found: Vectors = await self._answer(name, lambda _: ask(), until)
                return found

            vectors = await gather_or_cancel(one(part) for part in parts)
        return _joined(vectors)


def _joined(parts: list[Vectors]) -> Vectors:
    # Imported here, as in the stages: other requests do without numpy.
    import numpy as np

    return np.concatenate(parts)


async def check_pipeline(pipeline: Pipeline, request: RerankRequest, models: Models) -> None:
    """Raises the error of a request that this pipeline can't answer, before anything is scored."""
    names = [models.single(name) for name in pipeline.names if name != BM25]
    if BM25 in pipeline.names and not lexical.installed():
        raise InvalidRequest(NO_BM25, param="pipeline")
    if request.relevant_spans is not None and pipeline.scorer is None:
        raise InvalidRequest(
            "spans are found by a model, and this pipeline has none; leave the field out",
            param="relevant_spans",
        )
    for option, able, does in WISHES:
        if getattr(request.options, option) == getattr(DEFAULTS, option):
            continue
        infos = [await models.info(name) for name in names]
        if not any(getattr(info, able) for info in infos):
            raise InvalidRequest(
                f"no model of the pipeline {does}; leave the field out",
                param="query_image_url" if option == "query_image" else option,
            )


def part(request: RerankRequest, order: Sequence[int], info: ModelInfo | None) -> RerankRequest:
    """The request for one stage: documents of these indices, and the wishes that the model takes.

    Without `info` the wishes stay as they are.
    """
    return replace(
        request,
        documents=tuple([request.documents[i] for i in order]),
        options=request.options if info is None else taken(request.options, info),
        model=None,
        originals=None,
        top_n=None,
        sort=True,
        relevant_spans=None,
        pipeline=None,
        budget_ms=None,
    )
