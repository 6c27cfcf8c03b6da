"""Pipelines: cascade, fusion, diversity, threshold and budget, over the models that are served."""

from serve_app.pipeline_spec import UNNAMED, Pipeline

__all__ = ["UNNAMED", "Pipeline"]
