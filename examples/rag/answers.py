"""Answer a question from passages, with an OpenAI-compatible model or without a model."""

from __future__ import annotations

import re
from collections.abc import Sequence

import httpx

from examples.rag.protocols import Passage
from serve_app.client import Reranker

PROMPT = (
    "Answer the question in a few sentences, using only the numbered passages. Cite each passage "
    "you use as [n]. If the passages don't answer the question, say so."
)
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z`'\"])|\n{2,}")


class ChatModel:
    """A model served at `POST {base_url}/chat/completions`: OpenAI, vLLM, Ollama, llama.cpp, …"""

    def __init__(self, base_url: str, model: str, api_key: str | None = None) -> None:
        self._headers = {} if api_key is None else {"authorization": f"Bearer {api_key}"}
        self._url = f"{base_url.rstrip('/')}/chat/completions"
        self._model = model

    def answer(self, question: str, passages: Sequence[Passage]) -> str:
        """Generate an answer. Raises httpx.HTTPStatusError for an error response."""
        numbered = "\n\n".join(f"[{n}] {p.text}" for n, p in enumerate(passages, 1))
        messages = [
            {"role": "system", "content": PROMPT},
            {"role": "user", "content": f"{numbered}\n\nQuestion: {question}"},
        ]
        body = {"model": self._model, "messages": messages, "temperature": 0}
        response = httpx.post(self._url, json=body, headers=self._headers, timeout=120)
        response.raise_for_status()
        text: str = response.json()["choices"][0]["message"]["content"]
        return text


class Quotes:
    """Answers with the passages' most relevant sentences, without a language model."""

    def __init__(self, reranker: Reranker, sentences: int = 3) -> None:
        self._reranker = reranker
        self._count = sentences

    def answer(self, question: str, passages: Sequence[Passage]) -> str:
        sentences = [
            {"text": " ".join(sentence.split()), "from": n}
            for n, passage in enumerate(passages, 1)
            for sentence in _SENTENCE.split(passage.text)
            if sentence.strip()
        ]
        best = self._reranker.rerank(question, sentences, top_k=self._count)
        return " ".join(f"{hit.text} [{hit.metadata['from']}]" for hit in best)
