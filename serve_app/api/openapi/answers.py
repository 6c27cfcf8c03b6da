"""Schemas of the responses: results and errors of each format."""

from __future__ import annotations

from serve_app.api.openapi import pipelines
from serve_app.api.openapi.parts import INTEGER, NUMBER, TEXT, Json, array, nullable, obj, ref

EXPLANATION: Json = {"type": "string", "description": "The reason for the score, if requested."}


def schemas() -> Json:
    warnings = array(TEXT, description="Warnings, such as that documents were truncated.")
    usage = obj("total_tokens prompt_tokens", total_tokens=INTEGER, prompt_tokens=INTEGER)
    native = {
        "id": TEXT,
        "object": {"const": "rerank"},
        "created": INTEGER,
        "model": TEXT,
        "results": array(
            obj(
                "index score relevance_score",
                index=INTEGER,
                document=ref("Document"),
                score=NUMBER,
                relevance_score=NUMBER,
                passages=_passages(),
                relevant_spans=_spans(),
                explanation=EXPLANATION,
                **pipelines.hit_fields(),
            )
        ),
        "processing_time_ms": NUMBER,
        "usage": usage,
        "warnings": warnings,
        "pipeline": pipelines.report(),
    }
    data = array(obj("index relevance_score", index=INTEGER, relevance_score=NUMBER, document={}))
    fault = obj(
        "code message param type",
        code=TEXT,
        message=TEXT,
        param=nullable("string"),
        type=TEXT,
    )
    return {
        "NativeResponse": obj("id model results processing_time_ms usage", **native),
        "NativeError": obj("error request_id", error=fault, request_id=TEXT),
        "V1Response": obj(
            "id model results meta usage",
            id=TEXT,
            object={"const": "list"},
            model=TEXT,
            results=array(
                obj(
                    "index relevance_score",
                    index=INTEGER,
                    relevance_score=NUMBER,
                    document={"type": "object"},
                    passages=_passages(),
                    relevant_spans=_spans(),
                    explanation=EXPLANATION,
                )
            ),
            data=data,
            meta=_meta(warnings),
            usage=usage,
        ),
        "V1Error": obj(
            "message detail id code error",
            message=TEXT,
            detail=TEXT,
            id=TEXT,
            code=TEXT,
            error=_openai(),
        ),
        "VoyageResponse": obj(
            "object data model usage",
            object={"const": "list"},
            data=data,
            model=TEXT,
            usage=obj("total_tokens", total_tokens=INTEGER),
            warnings=warnings,
        ),
        "VoyageError": obj("detail", detail=TEXT, code=TEXT, request_id=TEXT),
        "TeiResponse": array(obj("index score", index=INTEGER, score=NUMBER, text=TEXT)),
        "TeiError": obj("error error_type", error=TEXT, error_type=TEXT),
        "MixedbreadResponse": obj(
            "object model data top_k return_input usage",
            object={"const": "list"},
            model=TEXT,
            data=array(
                obj(
                    "index score object",
                    index=INTEGER,
                    score=NUMBER,
                    object={"const": "rank_result"},
                    input={"type": ["string", "object"]},
                )
            ),
            top_k=INTEGER,
            return_input={"type": "boolean"},
            usage=usage,
        ),
        "MixedbreadError": obj("detail code request_id", detail=TEXT, code=TEXT, request_id=TEXT),
        "SglangResponse": array(
            obj(
                "index score meta_info",
                index=INTEGER,
                score=NUMBER,
                document={"anyOf": [TEXT, {"type": "object"}]},
                meta_info={"type": "object"},
            )
        ),
        "SglangError": obj(
            "object message type param code",
            object={"const": "error"},
            request_id=TEXT,
            **_openai()["properties"],
        ),
        "NimResponse": obj(
            "rankings",
            rankings=array(obj("index logit", index=INTEGER, logit=NUMBER)),
            model=TEXT,
            usage=usage,
        ),
        "NimError": obj(
            "object message detail type",
            object={"const": "error"},
            message=TEXT,
            detail=TEXT,
            type=TEXT,
            code=TEXT,
            request_id=TEXT,
        ),
        "ScoreResponse": obj(
            "id object created model data usage",
            id=TEXT,
            object={"const": "list"},
            created=INTEGER,
            model=TEXT,
            data=array(
                obj("index object score", index=INTEGER, object={"const": "score"}, score=NUMBER)
            ),
            usage=usage,
        ),
        "ScoreError": obj(
            "object error message type param code",
            object={"const": "error"},
            error=_openai(),
            **_openai()["properties"],
        ),
        "BatchResponse": obj(
            "object answers usage",
            object={"const": "list"},
            answers=array(
                {
                    "anyOf": [
                        obj(
                            "index error status",
                            index=INTEGER,
                            error=fault,
                            status=INTEGER,
                            retry_after_s=INTEGER,
                        ),
                        obj("index id model results usage", index=INTEGER, **native),
                    ]
                }
            ),
            usage=usage,
        ),
        "Models": obj(
            "object data",
            object={"const": "list"},
            data=array(ref("Model")),
        ),
        "Model": obj("id object", id=TEXT, object={"const": "model"}, model_type=TEXT),
        "Info": obj(
            "model_id model_type max_input_length max_client_batch_size version",
            model_id=TEXT,
            model_sha=nullable("string"),
            model_dtype=TEXT,
            model_type={"type": "object"},
            max_input_length=INTEGER,
            max_client_batch_size=INTEGER,
            auto_truncate={"type": "boolean"},
            version=TEXT,
        ),
    }


def _meta(warnings: Json) -> Json:
    return obj(
        "api_version billed_units tokens cached_tokens",
        api_version=obj("version", version=TEXT),
        billed_units=obj("search_units", search_units=INTEGER),
        tokens=obj("input_tokens output_tokens", input_tokens=INTEGER, output_tokens=INTEGER),
        cached_tokens={**INTEGER, "description": "Tokens of pairs answered from the cache."},
        warnings=warnings,
        pipeline=pipelines.report(),
    )


def _openai() -> Json:
    return obj(
        "message type param code",
        message=TEXT,
        type=TEXT,
        param=nullable("string"),
        code=INTEGER,
    )


def _passages() -> Json:
    return {**INTEGER, "description": "Number of passages scored, if documents were split."}


def _spans() -> Json:
    span = obj("start end score", start=INTEGER, end=INTEGER, score=NUMBER)
    return array(span, description="From most to least relevant; start and end are in code points.")
