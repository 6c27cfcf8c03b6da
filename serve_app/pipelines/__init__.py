"""Pipelines: cascade, fusion, diversity, threshold and budget, over the models that are served."""

from serve_app.pipelines.spec import UNNAMED, Pipeline

__all__ = ["UNNAMED", "Pipeline"]
