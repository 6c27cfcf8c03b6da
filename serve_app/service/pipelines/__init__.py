"""Pipelines over the served models: cascades, fusion, diversity, thresholds and budgets."""

from serve_app.pipeline_spec import UNNAMED, Pipeline

__all__ = ["UNNAMED", "Pipeline"]
