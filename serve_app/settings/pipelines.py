"""Checks of the configured pipelines, so that what is wrong stops the start and not a request."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from models.pipelines import lexical
from serve_app.errors import UnknownModel
from serve_app.pipeline_spec import BM25, UNNAMED, Mmr, Pipeline
from serve_app.service.catalog import Catalog
from serve_app.service.pipelines.served_models import NO_BM25


def check_pipelines(
    catalog: Catalog, pipelines: Mapping[str, Pipeline], may_embed: Collection[str]
) -> None:
    """Check that every stage can run with the models that are served.

    `may_embed`: the models that are, or may turn out to be, bi-encoders. Raises ValueError.
    """
    for name in (*catalog.names, *catalog.aliases):
        if name in (BM25, UNNAMED):
            raise ValueError(f"models: the name {name!r} is reserved for pipelines")
    for name, pipeline in pipelines.items():
        for needed in pipeline.names:
            if problem := _problem(needed, catalog, pipelines):
                raise ValueError(f"models: the pipeline {name!r}: {problem}")
        for stage in pipeline.stages:
            if isinstance(stage, Mmr) and catalog.resolve(stage.mmr) not in may_embed:
                raise ValueError(
                    f"models: the pipeline {name!r}: mmr needs a bi-encoder, and {stage.mmr!r} is "
                    "not one; the embedded model is one with family: bi-encoder"
                )


def _problem(needed: str, catalog: Catalog, pipelines: Mapping[str, Pipeline]) -> str | None:
    """Why a stage cannot use what it names; None if it can."""
    if needed == BM25:
        return None if lexical.installed() else NO_BM25
    try:
        found = catalog.resolve(needed)
    except UnknownModel:
        served = ", ".join(name for name in catalog.names if name not in pipelines)
        return f"{needed!r} is not served; models: {served}"
    if found in pipelines:
        return f"{needed!r} is a pipeline; a stage must name a model"
    return None
