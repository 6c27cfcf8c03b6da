"""The parts of the OpenAPI description about API keys, limits and usage."""

from __future__ import annotations

from typing import Any

from serve_app.telemetry import USAGE
from serve_app.telemetry.usage import MODEL_USAGE

Json = dict[str, Any]

SECURITY_SCHEMES: Json = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "Required if the service has API keys. "
        "`Token KEY` and a bare `KEY` are also accepted.",
    },
    "xApiKey": {"type": "apiKey", "in": "header", "name": "x-api-key"},
    "apiKey": {"type": "apiKey", "in": "header", "name": "api-key"},
}
# The empty entry is for services without API keys.
SECURITY: list[Json] = [{}, {"bearer": []}, {"xApiKey": []}, {"apiKey": []}]
OPEN: list[Json] = []

UNAUTHORIZED = "The API key is missing or unknown."
FORBIDDEN = "The API key is not an operator's."
UNAUTHORIZED_HEADERS: Json = {
    "WWW-Authenticate": {"description": "Authentication scheme.", "schema": {"const": "Bearer"}}
}


def limit_headers() -> Json:
    """The headers of every response to a client with limits."""
    found: Json = {}
    integer = {"type": "integer"}
    duration = {"type": "string", "examples": ["6m0s"]}
    for name, unit, which in (
        ("-Requests", "requests", ""),
        ("-Tokens", "tokens", ""),
        ("", "requests or tokens", ", whichever is closer to its limit"),
    ):
        found[f"X-RateLimit-Limit{name}"] = {
            "description": f"Maximum {unit} per minute{which}.",
            "schema": integer,
        }
        found[f"X-RateLimit-Remaining{name}"] = {
            "description": f"Remaining {unit}{which}.",
            "schema": integer,
        }
        found[f"X-RateLimit-Reset{name}"] = {
            "description": f"Time until all {unit} are available again{which}.",
            "schema": duration if name else integer,
        }
    return found


def closed(route: Json, refused: Json) -> Json:
    """Return the route with the requirement of an API key."""
    route["responses"]["401"] = {**refused, "headers": UNAUTHORIZED_HEADERS}
    return {name: value for name, value in route.items() if name != "security"}


def usage_schema() -> Json:
    count: Json = {"type": "integer", "minimum": 0}
    limit: Json = {"type": ["integer", "null"], "description": "null means no limit."}
    limits = {"requests_per_minute": limit, "tokens_per_minute": limit}
    counts = {what: {**count, "description": f"{text}."} for what, text in USAGE.items()}
    by_model = {what: {**count, "description": f"{text}."} for what, text in MODEL_USAGE.items()}
    cost: Json = {"type": ["number", "null"], "description": "null if no price is configured."}
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
