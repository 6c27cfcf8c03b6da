"""The fields `pipeline` and `budget_ms`: a pipeline in place of a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from serve_app.dialects import fields
from serve_app.errors import InvalidRequest
from serve_app.pipelines.spec import Pipeline, problem


def pipeline(body: Mapping[str, Any]) -> Pipeline | None:
    """The stages that the body brings; None where it brings none.

    Raises InvalidRequest naming the stage's field that is wrong.
    """
    stages = body.get("pipeline")
    if stages is None:
        return None
    if body.get("model"):
        raise InvalidRequest(
            "send model or pipeline: the stages name the models.", param="pipeline"
        )
    try:
        return Pipeline(stages=stages)
    except ValidationError as error:
        where, message = problem(error)
        param = f"pipeline.{where}" if where else "pipeline"
        raise InvalidRequest(f"{param}: {message}.", param=param) from None


def budget_ms(body: Mapping[str, Any]) -> int | None:
    """Milliseconds from the request's arrival."""
    if body.get("budget_ms") is None:
        return None
    return fields.positive("budget_ms", body["budget_ms"])
