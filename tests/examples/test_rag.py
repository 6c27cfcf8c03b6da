"""The plain-Python RAG pipeline: each step, and the whole with and without a model."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest

from examples.rag.answers import ChatModel, Quotes
from examples.rag.corpus import docstrings
from examples.rag.pipeline import Rag
from examples.rag.protocols import Model, Passage
from examples.rag.ranking import diversify, fuse
from examples.rag.stores import Bm25, MemoryVectors
from serve_app.client import Reranker
from tests.local_server import QuietHandler, serving
from tests.serve_app.client.conftest import front, reranker, tracker, url  # noqa: F401
from tests.serve_app.client.frameworks.conftest import ANSWER, QUESTION, HashEmbedder

CALLS: list[dict[str, object]] = []


class Chat(QuietHandler):
    """A fake chat completions route that records its requests."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        CALLS.append({"path": self.path, "key": self.headers["authorization"], **json.loads(body)})
        message = {"role": "assistant", "content": "With wrap [1]."}
        self.send(200, json.dumps({"choices": [{"message": message}]}).encode())


@pytest.fixture(scope="module")
def chat() -> Iterator[str]:
    with serving(Chat) as base:
        yield base


def rag(reranker: Reranker, model: Model) -> Rag:  # noqa: F811
    return Rag(
        docstrings(),
        embedder=HashEmbedder(),
        store=MemoryVectors(),
        reranker=reranker,
        model=model,
    )


def test_rankings_are_fused_by_reciprocal_rank() -> None:
    assert fuse([["a", "b", "c"], ["b", "d"]]) == ["b", "a", "d", "c"]
    assert fuse([]) == []


def test_diversify_penalizes_similar_passages() -> None:
    vectors = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    assert diversify([0.9, 0.89, 0.5], vectors, 2, relevance=0.4) == [0, 2]
    assert diversify([0.9, 0.89, 0.5], vectors, 2, relevance=1) == [0, 1]
    assert diversify([0.5, 0.5], vectors[:2], 9) == [0, 1]
    assert diversify([], vectors[:0], 3) == []


def test_bm25_and_the_vector_store_find_the_nearest() -> None:
    bm25 = Bm25([Passage("a", "pandas eat bamboo"), Passage("b", "stocks fell")])
    assert bm25.search("what do pandas eat", 5) == ["a"]
    store = MemoryVectors()
    store.add(["a"], np.array([[1, 0]], np.float32))
    store.add(["b"], np.array([[0, 1]], np.float32))
    assert store.search(np.array([0.1, 0.9], np.float32), 2) == ["b", "a"]
    assert store.get(["b"]).tolist() == [[0, 1]]


def test_an_answer_without_a_model_quotes_the_passages(
    reranker: Reranker,  # noqa: F811
) -> None:
    answer = rag(reranker, Quotes(reranker, sentences=2)).ask(QUESTION)
    assert answer.passages[0].id == ANSWER
    assert "returning a list of wrapped lines. [1]" in answer.text
    assert len(answer.passages) == len(answer.scores) == 4


def test_an_answer_by_a_chat_model(reranker: Reranker, chat: str) -> None:  # noqa: F811
    model = ChatModel(f"{chat}/v1/", "some-model", api_key="k")
    answer = rag(reranker, model).ask(QUESTION)
    assert answer.text == "With wrap [1]."
    (call,) = CALLS
    assert (call["path"], call["key"]) == ("/v1/chat/completions", "Bearer k")
    assert "[1] textwrap.wrap:" in str(call["messages"])
