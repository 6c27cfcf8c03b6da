"""Calls to a chat endpoint, without the fields that the server rejects."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from models.llm.prompts import Message
from models.remote import answers, cutting
from models.remote.connection import Connection
from models.remote.errors import RemoteRefused

TOP_LOGPROBS = 5
# Reasoning models may write this before their answer.
_THINKING = re.compile(r"<think>.*?(</think>|$)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Completion:
    """The model's answer and its tokens, prompt included.

    `probabilities`: at each position of the answer, the probabilities of the most likely words;
    empty if the server returns no log-probabilities.
    """

    text: str
    tokens: int
    probabilities: Sequence[dict[str, float]] = ()


class Chat:
    """Requests structured output and log-probabilities until the server rejects them."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._structured = connection.spec.structured
        self._logprobs = True

    async def ask(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        deadline: float,
        schema: dict[str, Any] | None = None,
        logprobs: bool = False,
    ) -> Completion:
        """The model's answer. Raises a RemoteError: RemoteAnswerError if it has no text."""
        body: dict[str, Any] = {
            "model": self._connection.model,
            "messages": list(messages),
            "temperature": 0,
            "max_tokens": max_tokens,
        }
        extra = self._extra(schema, logprobs)
        try:
            answer = await self._post({**body, **extra}, deadline)
        except RemoteRefused:
            # Servers reject unknown fields, each with a different message.
            if not extra or (schema and self._connection.spec.structured != "auto"):
                raise
            answer = await self._post(body, deadline)
            if "response_format" in extra:
                self._structured = "none"
            else:
                self._logprobs = False
            self._connection.transport.counts["fields_refused"] += 1
        text = _text(answer)
        if text is None:
            raise self._connection.transport.unusable_answer("it has no text", answer)
        tokens = answers.tokens_in(answer)
        if tokens is None:
            tokens = sum(cutting.estimate(m["content"]) for m in messages) + cutting.estimate(text)
        self._connection.transport.spend(tokens)
        return Completion(_THINKING.sub("", text).strip(), tokens, _probabilities(answer))

    def _extra(self, schema: dict[str, Any] | None, logprobs: bool) -> dict[str, Any]:
        if logprobs:
            return {"logprobs": True, "top_logprobs": TOP_LOGPROBS} if self._logprobs else {}
        if schema is None or self._structured == "none":
            return {}
        if self._structured == "json_object":
            return {"response_format": {"type": "json_object"}}
        named = {"name": "judgement", "strict": True, "schema": schema}
        return {"response_format": {"type": "json_schema", "json_schema": named}}

    async def _post(self, body: dict[str, Any], deadline: float) -> Any:
        connection = self._connection
        return await connection.transport.post(
            connection.url, connection.with_parameters(body), deadline=deadline
        )


def _first_choice(answer: Any) -> dict[str, Any]:
    choices = answer.get("choices") if isinstance(answer, dict) else None
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, dict) else {}


def _text(answer: Any) -> str | None:
    message = _first_choice(answer).get("message")
    text = message.get("content") if isinstance(message, dict) else None
    return text if isinstance(text, str) else None


def _probabilities(answer: Any) -> list[dict[str, float]]:
    logprobs = _first_choice(answer).get("logprobs")
    positions = logprobs.get("content") if isinstance(logprobs, dict) else None
    found: list[dict[str, float]] = []
    for position in positions if isinstance(positions, list) else ():
        top = position.get("top_logprobs") if isinstance(position, dict) else None
        probabilities: dict[str, float] = {}
        for entry in top if isinstance(top, list) else ():
            word = entry.get("token") if isinstance(entry, dict) else None
            value = entry.get("logprob") if isinstance(entry, dict) else None
            if isinstance(word, str) and isinstance(value, (int, float)) and value <= 1e-6:
                key = word.strip().lower()
                probabilities[key] = probabilities.get(key, 0.0) + math.exp(value)
        found.append(probabilities)
    return found
