"""The tool inside smolagents' own agents, driven by scripted models."""

from __future__ import annotations

import json
from typing import Any

import pytest
from smolagents import CodeAgent, Model, ToolCallingAgent
from smolagents.models import (
    ChatMessage,
    ChatMessageToolCall,
    ChatMessageToolCallFunction,
    MessageRole,
)

from serve_app.client import Reranker, TokenUsageTracker
from serve_app.client.agents.smolagents import RerankTextsTool

TEXTS = ["stocks fell", "pandas eat bamboo", "bears eat"]


class Scripted(Model):
    """Says what it is told to, and keeps what it was asked."""

    def __init__(self, *messages: ChatMessage) -> None:
        super().__init__(model_id="scripted")
        self.messages = list(messages)
        self.asked: list[Any] = []

    def generate(self, messages: list[Any], *arguments: Any, **options: Any) -> ChatMessage:
        self.asked.append((messages, options))
        return self.messages.pop(0)


def calls(name: str, arguments: dict[str, Any]) -> ChatMessage:
    function = ChatMessageToolCallFunction(name=name, arguments=arguments)
    call = ChatMessageToolCall(id="1", type="function", function=function)
    return ChatMessage(role=MessageRole.ASSISTANT, content="", tool_calls=[call])


def says(code: str) -> ChatMessage:
    return ChatMessage(role=MessageRole.ASSISTANT, content=f"<code>\n{code}\n</code>")


@pytest.fixture
def tool(reranker: Reranker) -> RerankTextsTool:
    return RerankTextsTool(reranker)


def test_a_tool_calling_agent(tool: RerankTextsTool, tracker: TokenUsageTracker) -> None:
    arguments = {"query": "pandas eat", "texts": TEXTS, "batch_size": 2, "track_tokens": True}
    model = Scripted(
        calls(tool.name, arguments), calls("final_answer", {"answer": "pandas eat bamboo"})
    )
    agent = ToolCallingAgent(tools=[tool], model=model, verbosity_level=0)
    assert agent.run("What do pandas eat?") == "pandas eat bamboo"
    observed = agent.memory.steps[1].observations
    assert [hit["index"] for hit in json.loads(observed)["results"]] == [1, 2, 0]
    assert tracker.snapshot().requests == 2


def test_a_code_agent(tool: RerankTextsTool, tracker: TokenUsageTracker) -> None:
    code = f"""import json
found = json.loads(rerank_texts(query="pandas eat", texts={TEXTS}, top_k=1, track_tokens=False))
final_answer(found["results"][0]["text"])"""
    model = Scripted(says(code))
    agent = CodeAgent(
        tools=[tool], model=model, verbosity_level=0, additional_authorized_imports=["json"]
    )
    assert agent.run("What do pandas eat?") == "pandas eat bamboo"
    assert "rerank_texts" in str(model.asked[0][0]), "the agent's prompt describes the tool"
    assert tracker.snapshot().tokens == 0


def test_a_failure_is_shown_to_the_agent(tool: RerankTextsTool) -> None:
    wrong = calls(tool.name, {"query": " ", "texts": TEXTS})
    model = Scripted(wrong, calls("final_answer", {"answer": "none"}))
    agent = ToolCallingAgent(tools=[tool], model=model, verbosity_level=0)
    assert agent.run("?") == "none"
    assert "query must not be empty" in str(agent.memory.steps[1].error)


def test_the_form(tool: RerankTextsTool, url: str) -> None:
    assert (tool.name, tool.output_type) == ("rerank_texts", "string")
    nullable = {name for name, field in tool.inputs.items() if field.get("nullable")}
    assert nullable == {"top_k", "batch_size", "track_tokens"}
    assert isinstance(tool.forward("pandas", TEXTS), str)
    own = RerankTextsTool(target=url, tracker=TokenUsageTracker())
    own("pandas", TEXTS)
    assert own.reranker.tracker.snapshot().rows[0].tool == "rerank_texts"
