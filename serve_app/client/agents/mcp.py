"""The tool as a Model Context Protocol (MCP) server."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field

from serve_app import __version__
from serve_app.client.agents import functions
from serve_app.client.core import AsyncReranker
from serve_app.errors import RerankError, installed_by

with installed_by("clients"):
    from mcp.server import MCPServer
    from mcp.server.mcpserver.exceptions import ToolError


class Ranked(BaseModel):
    """A ranked text; `index` is its position in the input list, from 0."""

    index: int
    score: float
    text: str


class Ranking(BaseModel):
    """Texts, most relevant first."""

    results: list[Ranked]
    model: str | None
    tokens: int


def make_server(reranker: AsyncReranker) -> MCPServer[Any]:
    """Create a server with one tool, `rerank_texts`."""
    server: MCPServer[Any] = MCPServer(
        "rerank-serve",
        version=__version__,
        instructions="Ranks texts by relevance to a query with a reranking model.",
        log_level="WARNING",
    )

    @server.tool(name=functions.NAME, description=functions.DESCRIPTION)
    async def rerank_texts(
        query: Annotated[str, Field(description=functions.QUERY)],
        texts: Annotated[list[str], Field(description=functions.TEXTS)],
        top_k: Annotated[int | None, Field(ge=1, description=functions.TOP_K)] = None,
        batch_size: Annotated[int | None, Field(ge=1, description=functions.BATCH_SIZE)] = None,
        track_tokens: Annotated[bool | None, Field(description=functions.TRACK_TOKENS)] = None,
    ) -> Ranking:
        try:
            found = await reranker.rerank(
                query, texts, top_k=top_k, batch_size=batch_size, track_tokens=track_tokens
            )
        except RerankError as error:
            raise ToolError(str(error)) from error
        hits = [Ranked(index=hit.index, score=hit.score, text=hit.text) for hit in found]
        return Ranking(results=hits, model=found.model, tokens=found.tokens)

    return server


def serve(
    url: str,
    *,
    api_key: str | None = None,
    model: str | None = None,
    host: str = "127.0.0.1",
    port: int | None = None,
) -> None:
    """Serve the reranker at `url` over stdio, or over HTTP at `/mcp` if `port` is set."""
    reranker = AsyncReranker(url, api_key=api_key, model=model, tool=functions.NAME)
    server = make_server(reranker)
    if port is None:
        server.run("stdio")
    else:
        server.run("streamable-http", host=host, port=port)
