"""A chat endpoint: one question, one answer, what it cost; and what the server can't do."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from models.llm.prompts import Message
from models.remote import answers, cutting
from models.remote.connection import Remote
from models.remote.errors import RemoteRefused

TOP_LOGPROBS = 5
# What models that reason aloud put before their answer.
_THOUGHT = re.compile(r"<think>.*?(</think>|$)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Completion:
    """An answer. `chances`: the probabilities of the words that might have stood at a place, in
    the answer's order; empty where the server offers none."""

    text: str
    tokens: int
    chances: Sequence[dict[str, float]] = ()


class Chat:
    """Asks with structured outputs and log-probabilities until the server refuses them."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        self._structured = remote.spec.structured
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
        """The answer. Raises a RemoteError; RemoteAnswerError where there is no text in it."""
        body: dict[str, Any] = {
            "model": self._remote.model,
            "messages": list(messages),
            "temperature": 0,
            "max_tokens": max_tokens,
        }
        extra = self._extra(schema, logprobs)
        try:
            answer = await self._post({**body, **extra}, deadline)
        except RemoteRefused:
            # Servers refuse fields that they don't know, each in words of its own.
            if not extra or (schema and self._remote.spec.structured != "auto"):
                raise
            answer = await self._post(body, deadline)
            if "response_format" in extra:
                self._structured = "none"
            else:
                self._logprobs = False
            self._remote.transport.counts["fields_refused"] += 1
        text = _text(answer)
        if text is None:
            raise self._remote.transport.bad_answer("there is no text in it", answer)
        tokens = answers.tokens_in(answer)
        if tokens is None:
            tokens = sum(cutting.estimate(m["content"]) for m in messages) + cutting.estimate(text)
        self._remote.transport.spend(tokens)
        return Completion(_THOUGHT.sub("", text).strip(), tokens, _chances(answer))

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
        remote = self._remote
        return await remote.transport.post(remote.url, remote.completed(body), deadline=deadline)


def _first(answer: Any) -> dict[str, Any]:
    choices = answer.get("choices") if isinstance(answer, dict) else None
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, dict) else {}


def _text(answer: Any) -> str | None:
    message = _first(answer).get("message")
    text = message.get("content") if isinstance(message, dict) else None
    return text if isinstance(text, str) else None


def _chances(answer: Any) -> list[dict[str, float]]:
    logprobs = _first(answer).get("logprobs")
    places = logprobs.get("content") if isinstance(logprobs, dict) else None
    found: list[dict[str, float]] = []
    for place in places if isinstance(places, list) else ():
        top = place.get("top_logprobs") if isinstance(place, dict) else None
        chances: dict[str, float] = {}
        for entry in top if isinstance(top, list) else ():
            word = entry.get("token") if isinstance(entry, dict) else None
            value = entry.get("logprob") if isinstance(entry, dict) else None
            if isinstance(word, str) and isinstance(value, (int, float)) and value <= 1e-6:
                key = word.strip().lower()
                chances[key] = chances.get(key, 0.0) + math.exp(value)
        found.append(chances)
    return found
