"""The tool as OpenAI-style function calling has it, and what every form of the tool does."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from serve_app.client.reranker import Reranker
from serve_app.client.results import RerankResults
from serve_app.errors import InvalidRequest

NAME = "rerank_texts"
DESCRIPTION = (
    "Orders texts by their relevance to a query. Use it to find which of many passages, search "
    "results or notes answer a question. Returns JSON: results, each with the text's index in "
    "the list, its score (higher is more relevant) and the text, best first."
)
QUERY = "What the texts should be relevant to: a question or a topic."
TEXTS = "The texts to order."
TOP_K = "How many of the best texts to return; all without it."
BATCH_SIZE = "How many texts to send in one request; the client's own number without it."
TRACK_TOKENS = "Whether to count the tokens that this call uses; the client's setting without it."


class RerankArguments(BaseModel):
    """What a model sends to the tool."""

    model_config = ConfigDict(extra="forbid")

    query: str = Field(description=QUERY)
    texts: list[str] = Field(description=TEXTS)
    top_k: int | None = Field(None, ge=1, description=TOP_K)
    batch_size: int | None = Field(None, ge=1, description=BATCH_SIZE)
    track_tokens: bool | None = Field(None, description=TRACK_TOKENS)


def function_schema(form: Literal["chat", "responses"] = "chat") -> dict[str, Any]:
    """The tool for `tools=[…]` of a chat completion, or of OpenAI's Responses API."""
    schema = RerankArguments.model_json_schema()
    function = {
        "name": NAME,
        "description": DESCRIPTION,
        "parameters": {
            "type": "object",
            "properties": {name: _plain(field) for name, field in schema["properties"].items()},
            "required": schema["required"],
            "additionalProperties": False,
        },
    }
    if form == "responses":
        return {"type": "function", **function}
    return {"type": "function", "function": function}


def _plain(field: dict[str, Any]) -> dict[str, Any]:
    """Without titles and defaults; an optional field is of its type, and left out or sent."""
    wanted = field.get("anyOf", [{}])[0]
    return {**{k: v for k, v in field.items() if k not in ("title", "default", "anyOf")}, **wanted}


def call_function(arguments: str | Mapping[str, Any], reranker: Reranker) -> str:
    """The answer to a model's call, whose arguments may still be JSON.

    Raises InvalidRequest where they are not the schema's, and what the reranker raises.
    """
    try:
        if isinstance(arguments, str):
            asked = RerankArguments.model_validate_json(arguments)
        else:
            asked = RerankArguments.model_validate(arguments)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "arguments"
        raise InvalidRequest(f"{NAME}: {where}: {first['msg']}", param=where) from None
    found = reranker.rerank(
        asked.query,
        asked.texts,
        top_k=asked.top_k,
        batch_size=asked.batch_size,
        track_tokens=asked.track_tokens,
    )
    return as_json(found)


def as_json(found: RerankResults[Any]) -> str:
    """What a model reads of a result."""
    results = [{"index": h.index, "score": round(h.score, 6), "text": h.text} for h in found]
    return json.dumps({"results": results, "model": found.model}, ensure_ascii=False)
