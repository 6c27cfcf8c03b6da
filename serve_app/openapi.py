"""The OpenAPI 3.1 description of the service, as plain data.

Written by hand: the parsers in `dialects` are the truth, and the tests hold these schemas to them.
"""

from __future__ import annotations

from typing import Any

from serve_app import remote_contract
from serve_app.access import contract

Json = dict[str, Any]

# Every error status of a scoring route, with its code and what it means.
_ERRORS: tuple[tuple[int, str, str], ...] = (
    (400, "malformed_body", "Not a JSON object, or query or documents is missing or empty."),
    (401, "unauthorized", contract.UNAUTHORIZED),
    (404, "model_not_found", "The model is not served here; GET /v1/models lists those that are."),
    (405, "method_not_allowed", "The route takes another method."),
    (413, "body_too_large", "The body has more bytes than accepted."),
    (415, "unsupported_media_type", "The body is not application/json."),
    (422, "invalid_request", "A field has the wrong type or value."),
    (429, "overloaded", "The queue is full, or a limit is used up; wait as Retry-After says."),
    (500, "scoring_failed", "The model gave no usable score."),
    (502, "upstream_failed", remote_contract.UPSTREAM_FAILED),
    (503, "model_unavailable", "Waited too long, shutting down, or the model did not answer."),
    (504, "deadline_exceeded", "Scoring took longer than the worker timeout."),
)
_QUERY = "What is the capital of France?"
_TEXTS = ["Berlin is the capital of Germany.", "Paris is the capital of France."]
_SCORES = [(1, 0.998), (0, 0.021)]


def document(version: str) -> Json:
    """The whole description, as GET /openapi.json answers it."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Rerank",
            "version": version,
            "description": "A query and documents in, the documents in order of relevance out.",
        },
        "paths": {
            "/rerank": {"post": _native_route()},
            "/v1/rerank": {"post": _v1_route()},
            "/v1/models": {"get": _models_route()},
            "/v1/usage": {"get": _usage_route()},
            "/health": {"get": _state_route("health", "The process is alive.", ready=False)},
            "/ready": {"get": _state_route("ready", "A model can answer.", ready=True)},
            "/metrics": {
                "get": _closed(
                    _text_route("metrics", "Prometheus metrics.", "text/plain"), "Native"
                )
            },
            "/openapi.json": {"get": _self_route()},
            "/docs": {"get": _text_route("docs", "This description as a page.", "text/html")},
        },
        "security": contract.SECURITY,
        "components": {"schemas": _schemas(), "securitySchemes": contract.SECURITY_SCHEMES},
    }


def _native_route() -> Json:
    answer = {
        "id": "0b5e…",
        "model": "default",
        "results": [
            {"index": i, "document": _TEXTS[i], "score": s, "relevance_score": s}
            for i, s in _SCORES
        ],
        "processing_time_ms": 12.5,
        "usage": {"total_tokens": 34},
    }
    return _scoring_route(
        "rerank",
        "Order documents by relevance.",
        "Native",
        {"query": _QUERY, "documents": _TEXTS, "top_k": 2},
        answer,
    )


def _v1_route() -> Json:
    answer = {
        "id": "0b5e…",
        "model": "default",
        "results": [
            {"index": i, "relevance_score": s, "document": {"text": _TEXTS[i]}} for i, s in _SCORES
        ],
        "meta": {
            "api_version": {"version": "1"},
            "billed_units": {"search_units": 1},
            "tokens": {"input_tokens": 34},
            "cached_tokens": 0,
        },
        "usage": {"total_tokens": 34, "prompt_tokens": 34},
    }
    return _scoring_route(
        "rerank_v1",
        "Order documents by relevance, as Cohere v1 and Jina clients ask for it.",
        "V1",
        {"query": _QUERY, "documents": _TEXTS, "top_n": 2, "return_documents": True},
        answer,
    )


def _scoring_route(name: str, summary: str, dialect: str, request: Json, answer: Json) -> Json:
    body = {"schema": _ref(f"{dialect}Request"), "example": request}
    ok = _json("The documents in order.", f"{dialect}Response", answer)
    ok["headers"] = contract.limit_headers()
    responses: Json = {"200": ok}
    for status, code, meaning in _ERRORS:
        response = _json(meaning, f"{dialect}Error", _error_example(dialect, code, meaning))
        if status in (429, 503):
            response["headers"] = {
                "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}
            }
        if status == 429:
            response["headers"] |= contract.limit_headers()
        if status == 401:
            response["headers"] = contract.UNAUTHORIZED_HEADERS
        responses[str(status)] = response
    return {
        "operationId": name,
        "summary": summary,
        "requestBody": {"required": True, "content": {"application/json": body}},
        "responses": responses,
    }


def _error_example(dialect: str, code: str, message: str) -> Json:
    if dialect == "V1":
        return {"message": message, "detail": message, "id": "0b5e…", "code": code}
    return {"error": {"code": code, "message": message, "param": None}, "request_id": "0b5e…"}


def _models_route() -> Json:
    example = {"object": "list", "data": [{"id": "default", "object": "model"}]}
    ok = _json("The models.", "Models", example)
    return _closed(_get("models", "The models that are served.", ok), "V1")


def _usage_route() -> Json:
    ok = _json("The numbers, over all replicas.", "Usage", contract.USAGE_EXAMPLE)
    return _closed(_get("usage", "What the client of this key has used.", ok), "V1")


def _closed(route: Json, dialect: str) -> Json:
    problem = _error_example(dialect, "unauthorized", contract.UNAUTHORIZED)
    return contract.closed(route, _json(contract.UNAUTHORIZED, f"{dialect}Error", problem))


def _state_route(name: str, summary: str, *, ready: bool) -> Json:
    content = {"application/json": {"schema": {"type": "object"}}}
    route = _get(name, summary, {"description": "Yes.", "content": content})
    if ready:
        route["responses"]["503"] = {"description": "Not now.", "content": content}
    return route


def _text_route(name: str, summary: str, media_type: str) -> Json:
    content = {media_type: {"schema": {"type": "string"}}}
    return _get(name, summary, {"description": summary, "content": content})


def _self_route() -> Json:
    content = {"application/json": {"schema": {"type": "object"}}}
    return _get("openapi", "This document.", {"description": "OpenAPI 3.1.", "content": content})


def _get(name: str, summary: str, ok: Json) -> Json:
    wrong = _json("Only GET is answered.", "NativeError")
    return {
        "operationId": name,
        "summary": summary,
        "security": contract.OPEN,
        "responses": {"200": ok, "405": wrong},
    }


def _json(description: str, schema: str, example: Json | None = None) -> Json:
    content: Json = {"schema": _ref(schema)}
    if example is not None:
        content["example"] = example
    return {"description": description, "content": {"application/json": content}}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(required: str, **properties: Json) -> Json:
    """An object whose named fields are required; others may be there or come later."""
    return {"type": "object", "required": required.split(), "properties": properties}


def _schemas() -> Json:
    integer, number, text = {"type": "integer"}, {"type": "number"}, {"type": "string"}
    warnings = {"type": "array", "items": text, "description": "Such as: documents were cut."}
    passages = {"type": "integer", "description": "Parts scored, where documents were split."}
    hit: Json = {"index": integer, "relevance_score": number, "passages": passages}
    hit["explanation"] = remote_contract.EXPLANATION
    native = _object("index score relevance_score", document=text, score=number, **hit)
    v1 = _object("index relevance_score", document=_given(), **hit)
    meta = _object(
        "api_version billed_units tokens cached_tokens",
        api_version=_object("version", version=text),
        billed_units=_object("search_units", search_units=integer),
        tokens=_object("input_tokens", input_tokens=integer),
        cached_tokens={"type": "integer", "description": "Tokens that the cache answered."},
        warnings=warnings,
    )
    fault = _object("code message param", code=text, message=text, param=_nullable("string"))
    return {
        "Document": _given(),
        "Flag": _flag(),
        "NativeRequest": _request({"top_k": _top(), "top_n": _top()}, returns=True),
        "NativeResponse": _object(
            "id model results processing_time_ms usage",
            id=text,
            model=text,
            results={"type": "array", "items": native},
            processing_time_ms=number,
            usage=_object("total_tokens", total_tokens=integer),
            warnings=warnings,
        ),
        "NativeError": _object("error request_id", error=fault, request_id=text),
        "V1Request": _request({"top_n": _top()}, returns=False),
        "V1Response": _object(
            "id model results meta usage",
            id=text,
            model=text,
            results={"type": "array", "items": v1},
            meta=meta,
            usage=_object(
                "total_tokens prompt_tokens", total_tokens=integer, prompt_tokens=integer
            ),
        ),
        "V1Error": _object("message detail id code", message=text, detail=text, id=text, code=text),
        "Usage": contract.usage_schema(),
        "Models": _object(
            "object data",
            object={"const": "list"},
            data={"type": "array", "items": _object("id", id=text)},
        ),
    }


def _request(tops: Json, *, returns: bool) -> Json:
    """A scoring request. Unknown fields are ignored, so clients may send their extras."""
    schema = _object(
        "query documents",
        query={"type": "string", "pattern": "\\S", "description": "Not blank."},
        documents={"type": "array", "minItems": 1, "items": _ref("Document")},
        **tops,
        model=_nullable("string", maxLength=256, description="Absent: the default model."),
        return_documents={**_ref("Flag"), "default": returns},
        instruction=_nullable(
            "string", maxLength=4096, description="The task, for models that are prompted."
        ),
        max_tokens_per_doc=_nullable(
            "integer", minimum=1, description="Tokens of each document that are scored."
        ),
        long_document={
            "enum": ["truncate", "max_passage", None],
            "description": "Cut what is too long, or take the best of its passages.",
        },
        **remote_contract.request_fields(_ref("Flag")),
    )
    return remote_contract.either_query(schema)


def _given() -> Json:
    """A document: a string (empty is fine), or an object with its text, or an image."""
    text = _object("text", text={"type": "string"})
    image = _object("image", image={"type": "string"}, text=_nullable("string"))
    return {"anyOf": [{"type": "string"}, text, image]}


def _top() -> Json:
    return _nullable("integer", minimum=1, description="How many results; absent: all.")


def _flag() -> Json:
    words = {"type": "string", "pattern": "^([Tt][Rr][Uu][Ee]|[Ff][Aa][Ll][Ss][Ee])$"}
    return {"oneOf": [{"type": ["boolean", "null"]}, words]}


def _nullable(kind: str, **more: Any) -> Json:
    return {"type": [kind, "null"], **more}
