"""The tool in smolagents' agents, driven by scripted models."""

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
    """A model that returns the given messages in turn and records its inputs."""

    def __init__(self, *messages: ChatMessage) -> None:
        super().__init__(model_id="scripted")
        self.messages = list(messages)
        self.inputs: list[Any] = []

    def generate(self, messages: list[Any], *arguments: Any, **options: Any) -> ChatMessage:
        self.inputs.append((messages, options))
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


def test_a_tool_calling_agent_uses_the_tool(
    tool: RerankTextsTool, tracker: TokenUsageTracker
) -> None:
    arguments = {"query": "pandas eat", "texts": TEXTS, "batch_size": 2, "track_tokens": True}
    model = Scripted(
        calls(tool.name, arguments), calls("final_answer", {"answer": "pandas eat bamboo"})
    )
    agent = ToolCallingAgent(tools=[tool], model=model, verbosity_level=0)
    assert agent.run("What do pandas eat?") == "pandas eat bamboo"
    observed = agent.memory.steps[1].observations
    assert [hit["index"] for hit in json.loads(observed)["results"]] == [1, 2, 0]
    assert tracker.snapshot().requests == 2


def test_a_code_agent_uses_the_tool(tool: RerankTextsTool, tracker: TokenUsageTracker) -> None:
    code = f"""import json
found = json.loads(rerank_texts(query="pandas eat", texts={TEXTS}, top_k=1, track_tokens=False))
final_answer(found["results"][0]["text"])"""
    model = Scripted(says(code))
    agent = CodeAgent(
        tools=[tool], model=model, verbosity_level=0, additional_authorized_imports=["json"]
    )
    assert agent.run("What do pandas eat?") == "pandas eat bamboo"
    assert "rerank_texts" in str(model.inputs[0][0]), "the agent's prompt describes the tool"
    assert tracker.snapshot().tokens == 0


def test_the_agent_sees_a_failed_call(tool: RerankTextsTool) -> None:
    invalid = calls(tool.name, {"query": " ", "texts": TEXTS})
    model = Scripted(invalid, calls("final_answer", {"answer": "none"}))
    agent = ToolCallingAgent(tools=[tool], model=model, verbosity_level=0)
    assert agent.run("?") == "none"
    assert "query must not be empty" in str(agent.memory.steps[1].error)


def test_inputs_and_default_reranker(tool: RerankTextsTool, url: str) -> None:
    assert (tool.name, tool.output_type) == ("rerank_texts", "string")
    nullable = {name for name, field in tool.inputs.items() if field.get("nullable")}
    assert nullable == {"top_k", "batch_size", "track_tokens"}
    assert isinstance(tool.forward("pandas", TEXTS), str)
    own = RerankTextsTool(target=url, tracker=TokenUsageTracker())
    own("pandas", TEXTS)
    assert own.reranker.tracker.snapshot().rows[0].tool == "rerank_texts"
