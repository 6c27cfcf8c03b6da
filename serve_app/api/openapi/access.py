"""What the OpenAPI description says of keys and limits, as plain data."""

from __future__ import annotations

from typing import Any

from serve_app.telemetry import USAGE
from serve_app.telemetry.usage import MODEL_USAGE

Json = dict[str, Any]

SECURITY_SCHEMES: Json = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "Needed where the service has keys. `Token KEY` and `KEY` are read too.",
    },
    "xApiKey": {"type": "apiKey", "in": "header", "name": "x-api-key"},
    "apiKey": {"type": "apiKey", "in": "header", "name": "api-key"},
}
# The empty one: a service without keys asks for none.
SECURITY: list[Json] = [{}, {"bearer": []}, {"xApiKey": []}, {"apiKey": []}]
OPEN: list[Json] = []

UNAUTHORIZED = "No API key, or one that is not known."
UNAUTHORIZED_HEADERS: Json = {
    "WWW-Authenticate": {"description": "The scheme.", "schema": {"const": "Bearer"}}
}


def limit_headers() -> Json:
    """The headers of every answer to a client that has limits."""
    found: Json = {}
    for what, limit in (("-Requests", "requests"), ("-Tokens", "tokens"), ("", "the nearer limit")):
        integer = {"schema": {"type": "integer"}}
        found[f"X-RateLimit-Limit{what}"] = {"description": f"A minute's {limit}.", **integer}
        found[f"X-RateLimit-Remaining{what}"] = {"description": f"Left of {limit}.", **integer}
        reset = {"description": f"Time until all of {limit} is back."}
        schema = {"type": "string", "examples": ["6m0s"]} if what else integer["schema"]
        found[f"X-RateLimit-Reset{what}"] = {**reset, "schema": schema}
    return found


def closed(route: Json, refused: Json) -> Json:
    """A route that is open where there are keys, as one that is not."""
    route["responses"]["401"] = {**refused, "headers": UNAUTHORIZED_HEADERS}
    return {name: value for name, value in route.items() if name != "security"}


def usage_schema() -> Json:
    count: Json = {"type": "integer", "minimum": 0}
    limit: Json = {"type": ["integer", "null"], "description": "null: no limit."}
    limits = {"requests_per_minute": limit, "tokens_per_minute": limit}
    counts = {what: {**count, "description": f"{text}."} for what, text in USAGE.items()}
    by_model = {what: {**count, "description": f"{text}."} for what, text in MODEL_USAGE.items()}
    cost: Json = {"type": ["number", "null"], "description": "null: no price is set."}
    model: Json = {"model": {"type": "string"}, **by_model, "cost": cost}
    return {
        "type": "object",
        "required": ["object", "key", *USAGE, "models", "cost", "limits"],
        "properties": {
            "object": {"const": "usage"},
            "key": {"type": "string", "description": "The key's name."},
            **counts,
            "models": {
                "type": "array",
                "items": {"type": "object", "required": list(model), "properties": model},
            },
            "cost": cost,
            "limits": {"type": "object", "required": list(limits), "properties": limits},
        },
    }


USAGE_EXAMPLE: Json = {
    "object": "usage",
    "key": "search",
    "requests": 12,
    "documents": 480,
    "tokens": 31_000,
    "cached_tokens": 9_200,
    "errors": 0,
    "models": [
        {
            "model": "all-MiniLM-L6-v2-maxsim",
            "queries": 12,
            "documents": 480,
            "tokens": 31_000,
            "cached_tokens": 9_200,
            "cost": 0.00062,
        }
    ],
    "cost": 0.00062,
    "limits": {"requests_per_minute": 60, "tokens_per_minute": None},
}
