"""What the API description says of models that providers score."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

UPSTREAM_FAILED = "The provider behind the model gave no usable answer."
EXPLANATION: Json = {"type": "string", "description": "The reason, where one was asked for."}
_IMAGE = r"^(https?://|[Dd][Aa][Tt][Aa]:[Ii][Mm][Aa][Gg][Ee]/[\w.+-]+;[Bb][Aa][Ss][Ee]64,)"


def request_fields(flag: Json) -> Json:
    """The fields beside those of every model."""
    return {
        "query_image_url": {
            "type": ["string", "null"],
            "pattern": _IMAGE,
            "description": "An image in place of the query, for models that take one.",
        },
        "explain": {**flag, "default": False},
    }


def either_query(schema: Json) -> Json:
    """The request's schema with its query a text, or left out where an image takes its place."""
    text = {"required": ["query"], "properties": {"query": schema["properties"]["query"]}}
    image = {
        "required": ["query_image_url"],
        "properties": {
            "query_image_url": {"type": "string"},
            "query": {"type": ["string", "null"]},
        },
    }
    return {**schema, "required": ["documents"], "anyOf": [text, image]} | {
        "properties": {**schema["properties"], "query": {"type": ["string", "null"]}}
    }
