"""The parts of the OpenAPI description about remote models."""

from __future__ import annotations

from serve_app import errors
from serve_app.api.openapi.parts import NOTHING, TEXT, Json, nullable, obj, ref

ERRORS: tuple[tuple[type[errors.RerankError], str], ...] = (
    (errors.UpstreamRefused, "The model's provider rejected the request as invalid."),
    (
        errors.UpstreamRateLimited,
        "The provider's rate limit is reached, or the budget configured for it.",
    ),
    (errors.UpstreamFailed, "The model's provider returned no usable response."),
    (errors.UpstreamUnavailable, "The model's provider is unreachable or failing."),
    (errors.UpstreamTimeout, "The model's provider did not respond in time."),
)
EXPLANATION: Json = {"type": "string", "description": "The reason for the score, if requested."}
_QUERY: Json = {"anyOf": [TEXT, obj("", text=nullable("string"), image=NOTHING), NOTHING]}


def either_query(schema: Json) -> Json:
    """The request's schema, with the query optional if there is a query image."""
    return {
        **schema,
        "required": [name for name in schema["required"] if name != "query"],
        "properties": {**schema["properties"], "query": _QUERY},
        "anyOf": [
            obj("query", query=ref("Query")),
            obj("query_image_url", query_image_url=TEXT),
        ],
    }
