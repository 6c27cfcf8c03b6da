"""The OpenAPI 3.1 description of the service, as plain data.

Paths and statuses come from the dialects' table of routes; the schemas are written by hand, and
the tests hold them to the parsers.
"""

from __future__ import annotations

import orjson

from serve_app import errors
from serve_app.api.dialects.base import Wire
from serve_app.api.dialects.routes import ROUTES, Rule
from serve_app.api.openapi import access, answers, examples, remote, requests
from serve_app.api.openapi.parts import Json, any_of, ref
from serve_app.api.timeout_headers import HEADER, MAX_TIMEOUT_MS

# Each error with what it means; a dialect says under which status it answers it.
ERRORS: tuple[tuple[type[errors.RerankError], str], ...] = (
    (errors.MalformedBody, "Not a JSON object."),
    (errors.BadRequest, "The query or the documents are missing or empty."),
    (errors.Unauthorized, access.UNAUTHORIZED),
    (errors.UnknownModel, "The model is not served here; GET /v1/models lists those that are."),
    (errors.MethodNotAllowed, "The route takes another method."),
    (errors.BodyTooLarge, "The body has more bytes than accepted, or would have unpacked."),
    (errors.UnsupportedMediaType, "The body is not application/json."),
    (errors.UnsupportedEncoding, "The body's Content-Encoding is neither gzip nor zstd."),
    (errors.InvalidRequest, "A field has the wrong type or value."),
    (errors.TooManyDocuments, "More documents than accepted."),
    (errors.DocumentTooLong, "A document is too long, and may not be cut."),
    (errors.Overloaded, "The queue is full; wait for the seconds in Retry-After."),
    (errors.RateLimited, "A limit of this key is used up; wait for the seconds in Retry-After."),
    (errors.QueueTimeout, "Waited too long in the queue."),
    (errors.ScoringFailed, "The model gave no usable score."),
    (errors.RerankError, "An unexpected error; the log has it."),
    (errors.ModelUnavailable, "The model did not answer."),
    (errors.ShuttingDown, "The service is stopping."),
    (
        errors.DeadlineExceeded,
        "The client's own time is up, or scoring took longer than it may.",
    ),
    *remote.ERRORS,
)
# What each dialect's request, answer and error are called here, and what it is.
FORMATS = {
    "native": ("Native", "this service's own, Infinity's and llama.cpp's"),
    "tei": ("Tei", "Text Embeddings Inference's (with texts)"),
    "voyage": ("Voyage", "Voyage's"),
    "v1": ("V1", "Cohere's v1"),
    "v1-voyage": ("V1", "Voyage's beside Cohere's"),
    "jina": ("V1", "Jina's"),
    "vllm": ("V1", "vLLM's"),
    "v2": ("V1", "Cohere's v2"),
    "nim": ("Nim", "NVIDIA NIM's"),
    "score": ("Score", "vLLM's scores of pairs"),
    "mixedbread": ("Mixedbread", "Mixedbread's (with input)"),
    "sglang": ("Sglang", "SGLang's"),
    "batch": ("Batch", "many queries in one call"),
}


_TIMEOUT: Json = {
    "name": HEADER,
    "in": "header",
    "description": "Milliseconds after which the answer is of no use; the work is dropped then.",
    "schema": {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_TIMEOUT_MS},
}


def document(version: str) -> Json:
    """The whole description, as GET /openapi.json answers it."""
    scoring = {_path(path): {"post": _scoring(path, rule)} for path, rule in ROUTES.items()}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Rerank",
            "version": version,
            "description": "A query and documents in, the documents in order of relevance out.",
        },
        "paths": {
            **scoring,
            "/info": {"get": _info_route()},
            "/v1/models": {"get": _models_route()},
            "/v1/models/{name}": {"get": _model_route()},
            "/v1/usage": {"get": _usage_route()},
            "/health": {"get": _state_route("health", "The process is alive.")},
            "/ready": {"get": _state_route("ready", "A model can answer.")},
            "/metrics": {"get": _metrics_route()},
            "/openapi.json": {"get": _self_route()},
            "/docs": {"get": _page_route()},
        },
        "security": access.SECURITY,
        "components": {
            "schemas": {
                **requests.schemas(),
                **answers.schemas(),
                "Usage": access.usage_schema(),
            },
            "securitySchemes": access.SECURITY_SCHEMES,
        },
    }


def _path(path: str) -> str:
    return path.replace(":path}", "}")


def _scoring(path: str, rule: Rule) -> Json:
    names = list(dict.fromkeys(FORMATS[dialect.name][0] for dialect in rule.dialects))
    formats = ", ".join(dict.fromkeys(FORMATS[dialect.name][1] for dialect in rule.dialects))
    route: Json = {
        "operationId": path.strip("/").replace("/", "_").replace("{model:path}_", ""),
        "summary": "Order documents by relevance.",
        "description": f"Formats: {formats}. The fields of the body decide."
        " The body may be gzip or zstd (Content-Encoding).",
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": any_of(_requests(names)),
                    "example": examples.REQUESTS[names[0]],
                }
            },
        },
        "responses": {
            "200": _content(
                "The scores.",
                any_of([f"{name}Response" for name in names]),
                examples.ANSWERS[names[0]],
            ),
            **_problems(rule, names),
        },
    }
    route["responses"]["200"]["headers"] = access.limit_headers()
    route["parameters"] = [_TIMEOUT]
    if "{model" in path:
        schema = {"type": "string", "pattern": "^[A-Za-z0-9_-]+$"}
        route["parameters"] += [
            {
                "name": "model",
                "in": "path",
                "required": True,
                "schema": schema,
                "description": "As NVIDIA's paths have it; the body's model is the one used.",
            }
        ]
    return route


def _requests(names: list[str]) -> list[str]:
    """Where formats share a path, one's schema leaves out what tells another's requests."""
    shared = {"Voyage": "VoyageTold", "V1": "V1Told"} if len(names) > 1 else {}
    return [f"{shared.get(name, name)}Request" for name in names]


def _problems(rule: Rule, names: list[str]) -> Json:
    schema = any_of([f"{name}Error" if name != "Batch" else "NativeError" for name in names])
    by_status: dict[int, list[tuple[Wire, errors.RerankError]]] = {}
    for kind, meaning in ERRORS:
        for dialect in rule.dialects:
            error = kind(meaning)
            by_status.setdefault(dialect.status(error), []).append((dialect, error))
    responses: Json = {}
    for status, found in sorted(by_status.items()):
        meanings = " ".join(dict.fromkeys(error.message for _, error in found))
        dialect, error = found[0]
        example = orjson.loads(dialect.error(error, "0b5e…"))
        response = _content(meanings, schema, example)
        if any(error.retry_after_s is not None for _, error in found):
            response["headers"] = {
                "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}
            }
        if status == errors.RateLimited.status:
            response["headers"] |= access.limit_headers()
        if status == errors.Unauthorized.status:
            response["headers"] = access.UNAUTHORIZED_HEADERS
        responses[str(status)] = response
    return responses


def _info_route() -> Json:
    return _closed(_get("info", "TEI's facts of the model.", _json("Facts.", "Info")))


def _models_route() -> Json:
    example = {"object": "list", "data": [{"id": "default", "object": "model"}]}
    ok = _json("The models.", "Models", example)
    return _closed(_get("models", "The models that are served.", ok))


def _usage_route() -> Json:
    ok = _json("The numbers, over all replicas.", "Usage", access.USAGE_EXAMPLE)
    return _closed(_get("usage", "What the client of this key has used.", ok))


def _closed(route: Json) -> Json:
    refused = _content(access.UNAUTHORIZED, any_of(["NativeError", "V1Error"]))
    return access.closed(route, refused)


def _model_route() -> Json:
    route = _get("model", "One of the models.", _json("The model.", "Model"))
    route["responses"]["404"] = _json("There is no such model.", "V1Error")
    schema = {"type": "string", "pattern": "^[A-Za-z0-9_-]+$"}
    route["parameters"] = [{"name": "name", "in": "path", "required": True, "schema": schema}]
    return _closed(route)


def _state_route(name: str, summary: str) -> Json:
    content = {"application/json": {"schema": {"type": "object"}}}
    route = _get(name, summary, {"description": "Yes.", "content": content})
    route["responses"]["503"] = {"description": "Not now.", "content": content}
    return route


def _metrics_route() -> Json:
    content = {
        "application/json": {"schema": {"type": "object"}},
        "text/plain": {"schema": {"type": "string"}},
    }
    summary = "Metrics: JSON, or Prometheus text where Accept asks for it."
    return _closed(_get("metrics", summary, {"description": summary, "content": content}))


def _page_route() -> Json:
    content = {"text/html": {"schema": {"type": "string"}}}
    summary = "This description as a page."
    return _get("docs", summary, {"description": summary, "content": content})


def _self_route() -> Json:
    content = {"application/json": {"schema": {"type": "object"}}}
    return _get("openapi", "This document.", {"description": "OpenAPI 3.1.", "content": content})


def _get(name: str, summary: str, ok: Json) -> Json:
    wrong = _content("Only GET is answered.", any_of(["NativeError", "V1Error"]))
    return {
        "operationId": name,
        "summary": summary,
        "security": access.OPEN,
        "responses": {"200": ok, "405": wrong},
    }


def _json(description: str, schema: str, example: Json | None = None) -> Json:
    return _content(description, ref(schema), example)


def _content(description: str, schema: Json, example: object = None) -> Json:
    content: Json = {"schema": schema}
    if example is not None:
        content["example"] = example
    return {"description": description, "content": {"application/json": content}}
