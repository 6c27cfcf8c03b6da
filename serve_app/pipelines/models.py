"""What stages ask of the models that are served, and with what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from models.pipelines import lexical
from models.types import DEFAULTS, ModelInfo, ScoreOptions
from models.vectors import Vectors
from serve_app.errors import InvalidRequest
from serve_app.pipelines.spec import BM25, Pipeline
from serve_app.types import RerankRequest, RerankResult

NO_BM25 = "bm25 is not installed here: pip install 'rerank-serve[pipelines]'"
# Wishes that a model may have no use for: the option, and how its info says that it has.
_WISHES = (
    ("instruction", "takes_instruction", "takes an instruction"),
    ("query_image", "takes_query_image", "takes an image as its query"),
    ("explain", "explains", "gives reasons"),
)


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


async def check(pipeline: Pipeline, request: RerankRequest, models: Models) -> None:
    """Raises the error of a request that this pipeline can't answer, before anything is scored."""
    names = [models.single(name) for name in pipeline.names if name != BM25]
    if BM25 in pipeline.names and not lexical.installed():
        raise InvalidRequest(NO_BM25, param="pipeline")
    if request.relevant_spans is not None and pipeline.scorer is None:
        raise InvalidRequest(
            "spans are found by a model, and this pipeline has none; leave the field out",
            param="relevant_spans",
        )
    for option, able, does in _WISHES:
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


def taken(options: ScoreOptions, info: ModelInfo) -> ScoreOptions:
    """The options without the wishes that this model has no use for."""
    idle = {o: getattr(DEFAULTS, o) for o, able, _ in _WISHES if not getattr(info, able)}
    return replace(options, **idle) if options != DEFAULTS else options
