"""The tool for smolagents."""

from __future__ import annotations

from typing import Any

from serve_app.client.agents import functions
from serve_app.client.reranker import Reranker
from serve_app.errors import installed_by

with installed_by("clients"):
    from smolagents import Tool


class RerankTextsTool(Tool):
    """A smolagents tool: `CodeAgent(tools=[RerankTextsTool()], model=…)`.

    `reranker` defaults to a client of the service on this machine, created with `options`, whose
    tokens are counted under `rerank_texts`.
    """

    name = functions.NAME
    description = functions.DESCRIPTION
    inputs = {  # noqa: RUF012 - smolagents requires a plain class attribute
        "query": {"type": "string", "description": functions.QUERY},
        "texts": {"type": "array", "description": functions.TEXTS, "items": {"type": "string"}},
        "top_k": {"type": "integer", "description": functions.TOP_K, "nullable": True},
        "batch_size": {"type": "integer", "description": functions.BATCH_SIZE, "nullable": True},
        "track_tokens": {
            "type": "boolean",
            "description": functions.TRACK_TOKENS,
            "nullable": True,
        },
    }
    output_type = "string"

    def __init__(self, reranker: Reranker | None = None, **options: Any) -> None:
        super().__init__()
        self.reranker = reranker or Reranker(**{"tool": functions.NAME, **options})

    def forward(
        self,
        query: str,
        texts: list[str],
        top_k: int | None = None,
        batch_size: int | None = None,
        track_tokens: bool | None = None,
    ) -> str:
        """Return the ranked texts as JSON. Raises a RerankError, which the agent sees."""
        arguments = {
            "query": query,
            "texts": texts,
            "top_k": top_k,
            "batch_size": batch_size,
            "track_tokens": track_tokens,
        }
        return functions.call_function(arguments, self.reranker)
