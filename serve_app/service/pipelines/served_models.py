"""The served models as pipeline stages use them: rank, describe and embed by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from models.concurrency import gather_or_cancel
from models.pipelines import lexical
from models.types import Document, ModelInfo
from models.vectors import Vectors
from serve_app.errors import InvalidRequest
from serve_app.pipeline_spec import BM25, Pipeline
from serve_app.service.admission import Admission
from serve_app.service.capabilities import LIMITED_OPTIONS, check, is_set, supported, supports
from serve_app.service.catalog import Catalog
from serve_app.service.deadline import Deadline
from serve_app.service.model_ranker import ModelRanker
from serve_app.service.retries import RetryingModel
from serve_app.types import RerankRequest, RerankResult

# Documents per call for embeddings, so that other calls to the replica run in between.
EMBED_BATCH_SIZE = 256
NO_BM25 = "bm25 is not installed: pip install 'rerank-serve[pipelines]'"


class ServedModels:
    """The models by name or alias. Every method may raise a RerankError.

    A stage holds a slot only while its pairs are scored, and a pipeline as a whole holds none:
    otherwise requests could deadlock, each holding a slot while waiting for another.
    """

    def __init__(
        self,
        catalog: Catalog,
        pipelines: Mapping[str, Pipeline],
        models: Mapping[str, RetryingModel],
        admission: Admission,
        ranker: ModelRanker,
    ) -> None:
        self._catalog = catalog
        self._pipelines = pipelines
        self._models = models
        self._admission = admission
        self._ranker = ranker

    def single(self, name: str) -> str:
        """Resolve a model name. Raises UnknownModel, or InvalidRequest if it is a pipeline."""
        found = self._catalog.resolve(name)
        if found in self._pipelines:
            raise InvalidRequest(
                f"{name!r} is a pipeline; a stage must name a model", param="pipeline"
            )
        return found

    async def rank(self, name: str, request: RerankRequest) -> RerankResult:
        """Rank by a single model, or by its fallback if it fails."""
        return await self._ranker.rank(self.single(name), request)

    async def info(self, name: str) -> ModelInfo:
        return await self._models[self.single(name)].info()

    async def embed(self, name: str, request: RerankRequest) -> Vectors:
        """Embed the request's documents: vectors [documents, hidden].

        Raises InvalidRequest if the model has no embeddings.
        """
        model = self._models[self.single(name)]
        info = await model.info()
        if not info.embeds:
            raise InvalidRequest(
                f"mmr needs a bi-encoder; the model {model.name!r} ({info.family}) has no "
                "embeddings",
                param="pipeline",
            )
        check(info, request)
        documents: list[Document] = list(request.documents)
        parts = [
            documents[i : i + EMBED_BATCH_SIZE] for i in range(0, len(documents), EMBED_BATCH_SIZE)
        ]
        until = Deadline(request.deadline)
        async with self._admission.slot(request.priority):
            vectors = await gather_or_cancel(
                model.embed(part, request.options, until) for part in parts
            )
        # Imported here because only mmr needs numpy.
        import numpy as np

        return np.concatenate(vectors)


async def check_pipeline(pipeline: Pipeline, request: RerankRequest, models: ServedModels) -> None:
    """Raises a RerankError before scoring starts if the pipeline cannot serve the request."""
    names = [models.single(name) for name in pipeline.names if name != BM25]
    if BM25 in pipeline.names and not lexical.installed():
        raise InvalidRequest(NO_BM25, param="pipeline")
    if request.relevant_spans is not None and pipeline.scorer is None:
        raise InvalidRequest(
            "relevant_spans needs a model, and this pipeline has none; leave the field out",
            param="relevant_spans",
        )
    for field, attribute, capability in LIMITED_OPTIONS:
        if not is_set(request.options, attribute):
            continue
        if not any([supports(await models.info(name), capability) for name in names]):
            raise InvalidRequest(
                f"no model in the pipeline {capability.has}; leave the field out", param=field
            )


def stage_request(
    request: RerankRequest, order: Sequence[int], info: ModelInfo | None
) -> RerankRequest:
    """Return the request for one stage, with the documents at these indices, in this order.

    Options that the model does not support are removed; without `info` all options are kept.
    """
    return replace(
        request,
        documents=tuple([request.documents[i] for i in order]),
        options=request.options if info is None else supported(request.options, info),
        model=None,
        originals=None,
        top_n=None,
        sort=True,
        relevant_spans=None,
        pipeline=None,
        budget_ms=None,
    )
