"""The OpenAPI 3.1 description of the service, as plain data.

Paths and statuses come from the dialects' routes; the schemas are written by hand, and tests
compare them with the parsers.
"""

from __future__ import annotations

import orjson

from serve_app import errors
from serve_app.api.dialects.base import Wire
from serve_app.api.dialects.routes import ROUTES, Rule
from serve_app.api.openapi import access, answers, examples, requests
from serve_app.api.openapi.parts import Json, any_of, ref
from serve_app.api.timeout_headers import HEADER, MAX_TIMEOUT_MS

# Each error with its description; the dialect decides the status.
ERRORS: tuple[tuple[type[errors.RerankError], str], ...] = (
    (errors.MalformedBody, "The body is not a JSON object."),
    (errors.BadRequest, "The query or the documents are missing or empty."),
    (errors.Unauthorized, access.UNAUTHORIZED),
    (errors.UnknownModel, "Unknown model; GET /v1/models lists the available ones."),
    (errors.MethodNotAllowed, "The route does not support this method."),
    (errors.BodyTooSlow, "The body arrived too slowly; the connection is closed."),
    (errors.BodyTooLarge, "The body exceeds the maximum size, as sent or decompressed."),
    (errors.UnsupportedMediaType, "The body is not application/json."),
    (errors.UnsupportedEncoding, "The body's Content-Encoding is neither gzip nor zstd."),
    (errors.InvalidRequest, "A field has the wrong type or value."),
    (errors.TooManyDocuments, "The request has too many documents."),
    (errors.DocumentTooLong, "A document is too long, and truncation is disabled."),
    (
        errors.Overloaded,
        "The queue or the memory for requests is full; retry after the seconds in Retry-After.",
    ),
    (
        errors.RateLimited,
        "The key's rate limit is reached; retry after the seconds in Retry-After.",
    ),
    (errors.QueueTimeout, "The request waited too long in the queue."),
    (errors.ScoringFailed, "The model returned no usable score."),
    (errors.RerankError, "Unexpected error; details are in the service's log."),
    (errors.ModelUnavailable, "The model did not respond."),
    (errors.ShuttingDown, "The service is shutting down."),
    (errors.DeadlineExceeded, "Scoring timed out, or exceeded the client's own timeout."),
    (errors.UpstreamRefused, "The model's provider rejected the request as invalid."),
    (
        errors.UpstreamRateLimited,
        "The provider's rate limit is reached, or the budget configured for it.",
    ),
    (errors.UpstreamFailed, "The model's provider returned no usable response."),
    (errors.UpstreamUnavailable, "The model's provider is unreachable or failing."),
    (errors.UpstreamTimeout, "The model's provider did not respond in time."),
)
# Schema name prefix and description of each dialect.
FORMATS = {
    "native": ("Native", "this service's own, Infinity's and llama.cpp's"),
    "tei": ("Tei", "Text Embeddings Inference's (with `texts`)"),
    "voyage": ("Voyage", "Voyage's"),
    "v1": ("V1", "Cohere's v1"),
    "v1-voyage": ("V1", "Voyage's combined with Cohere's"),
    "jina": ("V1", "Jina's"),
    "vllm": ("V1", "vLLM's"),
    "v2": ("V1", "Cohere's v2"),
    "nim": ("Nim", "NVIDIA NIM's"),
    "score": ("Score", "vLLM's for scoring pairs"),
    "mixedbread": ("Mixedbread", "Mixedbread's (with `input`)"),
    "sglang": ("Sglang", "SGLang's"),
    "batch": ("Batch", "several queries in one call"),
}

HEALTH = "State of the service, and with an operator's key, or if there are no keys, of its models."

_TIMEOUT: Json = {
    "name": HEADER,
    "in": "header",
    "description": "Timeout in milliseconds, after which unfinished work is dropped.",
    "schema": {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_TIMEOUT_MS},
}


def document(version: str) -> Json:
    """Return the complete description, as served at GET /openapi.json."""
    scoring = {_path(path): {"post": _scoring(path, rule)} for path, rule in ROUTES.items()}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Rerank",
            "version": version,
            "description": "Ranks documents by their relevance to a query.",
        },
        "paths": {
            **scoring,
            "/info": {"get": _info_route()},
            "/v1/models": {"get": _models_route()},
            "/v1/models/{name}": {"get": _model_route()},
            "/v1/usage": {"get": _usage_route()},
            "/health": {"get": _state_route("health", HEALTH)},
            "/ready": {"get": _state_route("ready", "Whether the service can answer requests.")},
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
        "summary": "Rank documents by relevance.",
        "description": f"Formats: {formats}. The fields of the body determine the format."
        " The body may be compressed with gzip or zstd (Content-Encoding).",
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
                "description": "Ignored, only for compatibility: the body names the model.",
            }
        ]
    return route


def _requests(names: list[str]) -> list[str]:
    """The request schemas; on a shared path each excludes the fields that identify another."""
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
                "Retry-After": {
                    "description": "Number of seconds to wait before retrying.",
                    "schema": {"type": "integer"},
                }
            }
        if status == errors.RateLimited.status:
            response["headers"] |= access.limit_headers()
        if status == errors.Unauthorized.status:
            response["headers"] = access.UNAUTHORIZED_HEADERS
        responses[str(status)] = response
    return responses


def _info_route() -> Json:
    ok = _json("The model's properties.", "Info")
    return _closed(_get("info", "Properties of the default model, in TEI's format.", ok))


def _models_route() -> Json:
    example = {"object": "list", "data": [{"id": "default", "object": "model"}]}
    ok = _json("The models.", "Models", example)
    return _closed(_get("models", "List the available models.", ok))


def _usage_route() -> Json:
    ok = _json("The usage, over all replicas.", "Usage", access.USAGE_EXAMPLE)
    return _closed(_get("usage", "Usage of this API key.", ok))


def _closed(route: Json) -> Json:
    refused = _content(access.UNAUTHORIZED, any_of(["NativeError", "V1Error"]))
    return access.closed(route, refused)


def _model_route() -> Json:
    route = _get("model", "Get one of the models.", _json("The model.", "Model"))
    route["responses"]["404"] = _json("Unknown model.", "V1Error")
    schema = {"type": "string", "pattern": "^[A-Za-z0-9_-]+$"}
    route["parameters"] = [{"name": "name", "in": "path", "required": True, "schema": schema}]
    return _closed(route)


def _state_route(name: str, summary: str) -> Json:
    content = {"application/json": {"schema": {"type": "object"}}}
    route = _get(name, summary, {"description": "Available.", "content": content})
    route["responses"]["503"] = {"description": "Unavailable or stopping.", "content": content}
    return route


def _metrics_route() -> Json:
    content = {
        "application/json": {"schema": {"type": "object"}},
        "text/plain": {"schema": {"type": "string"}},
    }
    summary = "Metrics as JSON, or in Prometheus' text format if Accept requests it."
    route = _closed(_get("metrics", summary, {"description": summary, "content": content}))
    route["responses"]["403"] = _content(access.FORBIDDEN, ref("NativeError"))
    return route


def _page_route() -> Json:
    content = {"text/html": {"schema": {"type": "string"}}}
    summary = "This description as a web page."
    return _get("docs", summary, {"description": summary, "content": content})


def _self_route() -> Json:
    content = {"application/json": {"schema": {"type": "object"}}}
    ok = {"description": "The OpenAPI 3.1 document.", "content": content}
    return _get("openapi", "This description in OpenAPI format.", ok)


def _get(name: str, summary: str, ok: Json) -> Json:
    wrong = _content("Only GET is supported.", any_of(["NativeError", "V1Error"]))
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
