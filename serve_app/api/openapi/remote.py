"""What the API description says of models that providers score."""

from __future__ import annotations

from serve_app import errors
from serve_app.api.openapi.parts import NOTHING, TEXT, Json, nullable, obj, ref

ERRORS: tuple[tuple[type[errors.RerankError], str], ...] = (
    (errors.UpstreamRefused, "The provider behind the model finds the request wrong."),
    (errors.UpstreamRateLimited, "The provider's limit is reached, or the budget set for it."),
    (errors.UpstreamFailed, "The provider behind the model gave no usable answer."),
    (errors.UpstreamUnavailable, "The provider can't be reached, or fails."),
    (errors.UpstreamTimeout, "The provider took longer than the model's deadline."),
)
EXPLANATION: Json = {"type": "string", "description": "The reason, where one was asked for."}
_QUERY: Json = {"anyOf": [TEXT, obj("", text=nullable("string"), image=NOTHING), NOTHING]}


def either_query(schema: Json) -> Json:
    """The request's schema with its query a text, or blank where an image takes its place."""
    return {
        **schema,
        "required": [name for name in schema["required"] if name != "query"],
        "properties": {**schema["properties"], "query": _QUERY},
        "anyOf": [
            obj("query", query=ref("Query")),
            obj("query_image_url", query_image_url=TEXT),
        ],
    }
