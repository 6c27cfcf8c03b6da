"""What is wrong with the settings' pipelines is said at the start, not at a request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.pipelines import lexical
from models.types import EMBEDDED
from serve_app.errors import UnknownModel
from serve_app.pipeline_spec import BM25, UNNAMED, Mmr
from serve_app.service.pipelines.served_models import NO_BM25

if TYPE_CHECKING:
    from serve_app.settings.settings import Settings


def check_pipelines(settings: Settings) -> None:
    """Raises ValueError for a pipeline whose stages can't run with the models that are served."""
    catalog, pipelines = settings.catalog(), settings.pipelines()
    for name in (*catalog.names, *(alias for m in settings.models for alias in m.aliases)):
        if name in (BM25, UNNAMED):
            raise ValueError(f"models: the name {name!r} has a meaning of its own in pipelines")
    for name, pipeline in pipelines.items():
        for needed in pipeline.names:
            if needed == BM25:
                if not lexical.installed():
                    raise ValueError(f"models: the pipeline {name!r}: {NO_BM25}")
                continue
            try:
                found = catalog.resolve(needed)
            except UnknownModel:
                served = ", ".join(n for n in catalog.names if n not in pipelines)
                raise ValueError(
                    f"models: the pipeline {name!r} names {needed!r}, which is not served; "
                    f"models: {served}"
                ) from None
            if found in pipelines:
                raise ValueError(
                    f"models: the pipeline {name!r} names {needed!r}, which is a pipeline too; "
                    "a stage names a model"
                )
        for stage in pipeline.stages:
            if isinstance(stage, Mmr) and not _may_embed(settings, catalog.resolve(stage.mmr)):
                raise ValueError(
                    f"models: the pipeline {name!r}: mmr needs a bi-encoder here, and "
                    f"{stage.mmr!r} is none; the embedded model is one with family: bi-encoder"
                )


def _may_embed(settings: Settings, name: str) -> bool:
    """False where the model is no bi-encoder for sure; else its checkpoint says."""
    model = next(m for m in settings.model_settings() if m.name == name)
    if model.is_remote:
        return False
    family = settings.spec(model).family
    return family == "bi-encoder" or (family == "auto" and model.source != EMBEDDED)
