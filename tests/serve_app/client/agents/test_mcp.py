"""The MCP server, called with the official MCP client."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from serve_app.client import AsyncReranker, Retry
from serve_app.client.agents.mcp import make_server

ROOT = Path(__file__).parent.parent.parent.parent.parent
TEXTS = ["stocks fell", "pandas eat bamboo", "bears eat"]


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_the_tool_ranks_texts_and_reports_errors(url: str, mode: str) -> None:
    async with AsyncReranker(url) as reranker, Client(make_server(reranker), mode=mode) as client:
        (tool,) = (await client.list_tools()).tools
        assert tool.name == "rerank_texts"
        assert set(tool.input_schema["required"]) == {"query", "texts"}
        assert tool.input_schema["properties"]["texts"]["description"]
        arguments = {"query": "pandas eat", "texts": TEXTS, "top_k": 2}
        answer = await client.call_tool("rerank_texts", arguments)
        assert not answer.is_error
        assert answer.structured_content == {
            "results": [
                {"index": 1, "score": 2.0, "text": "pandas eat bamboo"},
                {"index": 2, "score": 1.0, "text": "bears eat"},
            ],
            "model": "words",
            "tokens": 7,
        }
        refused = await client.call_tool("rerank_texts", {"query": "", "texts": TEXTS})
        assert refused.is_error
        assert "query must not be empty" in str(refused.content)
        wrong = await client.call_tool("rerank_texts", {"query": "q", "texts": "none"})
        assert wrong.is_error


async def test_an_unreachable_service_is_a_tool_error() -> None:
    down = AsyncReranker("http://127.0.0.1:9", retry=Retry(attempts=0))
    async with Client(make_server(down)) as client:
        answer = await client.call_tool("rerank_texts", {"query": "q", "texts": TEXTS})
    assert answer.is_error
    assert "127.0.0.1:9 is unreachable" in str(answer.content)


async def test_the_mcp_command_serves_over_stdio(url: str) -> None:
    command = StdioServerParameters(
        command=sys.executable,
        args=["-m", "serve_app", "mcp", "--url", url],
        env={**os.environ},
        cwd=ROOT,
    )
    async with Client(stdio_client(command)) as client:
        arguments = {"query": "pandas", "texts": TEXTS, "top_k": 1}
        answer = await client.call_tool("rerank_texts", arguments)
    assert answer.structured_content is not None
    assert answer.structured_content["results"][0]["index"] == 1
