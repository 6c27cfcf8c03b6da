"""The parts of the OpenAPI description about pipelines."""

from __future__ import annotations

from serve_app.api.openapi.parts import INTEGER, NOTHING, NUMBER, TEXT, Json, array, nullable, obj
from serve_app.pipeline_spec import MAX_FUSED, MAX_STAGES

_NAME: Json = {"type": "string", "minLength": 1, "maxLength": 256}
_COUNT: Json = {"type": "integer", "minimum": 1, "maximum": 1_000_000}
_KEEP: Json = {"anyOf": [_COUNT, NOTHING], "description": "Documents to keep (default: all)."}


def stages() -> Json:
    """The request field `pipeline`."""
    *scoring, threshold = (_closed(kind) for kind in _kinds())
    listed = array(
        {"oneOf": [*scoring, threshold]},
        prefixItems=[{"oneOf": scoring}],
        minItems=1,
        maxItems=MAX_STAGES,
    )
    return {
        "anyOf": [listed, NOTHING],
        "description": "Pipeline stages, instead of a model; the first one must score.",
    }


# Not allowed: a pipeline replaces the model.
BOTH: Json = obj(
    "pipeline model", pipeline={"type": "array"}, model={"type": "string", "minLength": 1}
)


def _kinds() -> tuple[Json, ...]:
    models = array(_NAME, minItems=2, maxItems=MAX_FUSED, uniqueItems=True)
    share = {**NUMBER, "minimum": 0, "maximum": 1}
    return (
        obj("rerank", rerank=_NAME, keep=_KEEP),
        obj("fuse", fuse=models, k=_COUNT, keep=_KEEP),
        obj("mmr", mmr={**_NAME, "not": {"const": "bm25"}}, keep=_KEEP, **{"lambda": share}),
        obj("threshold", threshold=NUMBER),
    )


def _closed(kind: Json) -> Json:
    return {**kind, "additionalProperties": False}


def hit_fields() -> dict[str, Json]:
    """The fields of a result from a pipeline."""
    score = obj("score rank", score=NUMBER, rank=INTEGER)
    return {
        "stages": {
            "type": "object",
            "additionalProperties": score,
            "description": "Score and rank in each stage of the pipeline, by stage name.",
        }
    }


def report() -> Json:
    """The report about the pipeline in a response."""
    stage = obj("name documents kept ms", name=TEXT, documents=INTEGER, kept=INTEGER, ms=NUMBER)
    stopped = nullable("string", description="The stage in which the budget ran out.")
    return obj("stages stopped_early", stages=array(stage), stopped_early=stopped)
