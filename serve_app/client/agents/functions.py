"""The tool for OpenAI-style function calling, and what all forms of the tool share."""

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
    "Ranks texts by relevance to a query. Use it to find which of many passages, search results "
    "or notes answer a question. Returns JSON with the results, most relevant first: each has "
    "the text's index in the list, its score (higher is more relevant) and the text."
)
QUERY = "The question or topic that the texts should be relevant to."
TEXTS = "The texts to rank."
TOP_K = "Maximum number of results; all texts are returned by default."
BATCH_SIZE = "Maximum number of texts per request; defaults to the client's setting."
TRACK_TOKENS = "Whether to count the tokens that this call uses; defaults to the client's setting."


class RerankArguments(BaseModel):
    """The arguments a model calls the tool with."""

    model_config = ConfigDict(extra="forbid")

    query: str = Field(description=QUERY)
    texts: list[str] = Field(description=TEXTS)
    top_k: int | None = Field(None, ge=1, description=TOP_K)
    batch_size: int | None = Field(None, ge=1, description=BATCH_SIZE)
    track_tokens: bool | None = Field(None, description=TRACK_TOKENS)


def function_schema(form: Literal["chat", "responses"] = "chat") -> dict[str, Any]:
    """Return the tool's entry for `tools=[…]` of a chat completion or OpenAI's Responses API."""
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
    """Drop titles and defaults; an optional field keeps its own type, without null."""
    kind = field.get("anyOf", [{}])[0]
    return {**{k: v for k, v in field.items() if k not in ("title", "default", "anyOf")}, **kind}


def call_function(arguments: str | Mapping[str, Any], reranker: Reranker) -> str:
    """Answer a model's call; `arguments` is its JSON text or the parsed object.

    Raises InvalidRequest if the arguments do not match the schema, and the reranker's errors.
    """
    try:
        if isinstance(arguments, str):
            call = RerankArguments.model_validate_json(arguments)
        else:
            call = RerankArguments.model_validate(arguments)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "arguments"
        raise InvalidRequest(f"{NAME}: {where}: {first['msg']}", param=where) from None
    found = reranker.rerank(
        call.query,
        call.texts,
        top_k=call.top_k,
        batch_size=call.batch_size,
        track_tokens=call.track_tokens,
    )
    return as_json(found)


def as_json(found: RerankResults[Any]) -> str:
    """Return the part of a result that the model sees, as JSON."""
    results = [{"index": h.index, "score": round(h.score, 6), "text": h.text} for h in found]
    return json.dumps({"results": results, "model": found.model}, ensure_ascii=False)
