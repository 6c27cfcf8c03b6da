"""The LlamaIndex node postprocessor."""

from __future__ import annotations

from typing import Any

import pytest
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.llms import MockLLM
from llama_index.core.schema import NodeWithScore, TextNode

from examples.llama_index_rag import rag_engine
from examples.rag.protocols import Passage
from serve_app.client import Reranker
from serve_app.client.frameworks.llama_index import RerankPostprocessor
from tests.serve_app.client.frameworks.conftest import ANSWER, QUESTION, HashEmbedder

NODES = [
    NodeWithScore(node=TextNode(id_="a", text="stocks fell"), score=0.9),
    NodeWithScore(node=TextNode(id_="b", text="pandas eat bamboo", metadata={"place": "zoo"})),
    NodeWithScore(node=TextNode(id_="c", text="bears eat"), score=0.1),
]
SEEN: list[str] = []


class EventRecorder(BaseEventHandler):
    @classmethod
    def class_name(cls) -> str:
        return "EventRecorder"

    def handle(self, event: Any, **kwargs: Any) -> None:
        SEEN.append(event.class_name())


async def test_nodes_are_ranked_by_their_embedded_text(reranker: Reranker) -> None:
    processor = RerankPostprocessor(reranker=reranker, top_n=2)
    found = processor.postprocess_nodes(NODES, query_str="pandas eat")
    assert [(n.node_id, n.score) for n in found] == [("b", 2.0), ("c", 1.0)]
    assert found == await processor.apostprocess_nodes(NODES, query_str="pandas eat")
    by_metadata = processor.postprocess_nodes(NODES, query_str="zoo")
    assert (by_metadata[0].node_id, by_metadata[0].score) == ("b", 1.0)
    assert NODES[0].score == 0.9
    assert processor.postprocess_nodes([], query_str="q") == []
    with pytest.raises(ValueError, match="query"):
        processor.postprocess_nodes(NODES)


def test_minimum_score(reranker: Reranker) -> None:
    processor = RerankPostprocessor(reranker=reranker, top_n=None, min_score=1.5)
    assert [n.node_id for n in processor.postprocess_nodes(NODES, query_str="pandas eat")] == ["b"]
    assert processor.to_dict()["min_score"] == 1.5


def test_rerank_events_are_emitted(reranker: Reranker) -> None:
    recorder = EventRecorder()
    get_dispatcher().add_event_handler(recorder)
    try:
        RerankPostprocessor(reranker=reranker).postprocess_nodes(NODES, query_str="pandas")
    finally:
        get_dispatcher().event_handlers.remove(recorder)
    assert SEEN == ["ReRankStartEvent", "ReRankEndEvent"]


async def test_it_reranks_in_a_query_engine(reranker: Reranker, passages: list[Passage]) -> None:
    processor = RerankPostprocessor(reranker=reranker, top_n=4)
    engine = rag_engine(passages, embedder=HashEmbedder(), postprocessor=processor)
    found = engine.query(QUESTION).source_nodes
    assert found[0].node_id == ANSWER
    assert [n.score for n in found] == sorted([n.score or 0 for n in found], reverse=True)
    assert found == (await engine.aquery(QUESTION)).source_nodes
    answering = rag_engine(
        passages, embedder=HashEmbedder(), postprocessor=processor, llm=MockLLM()
    )
    answer = answering.query(QUESTION)
    assert "textwrap.wrap" in str(answer), "the mock model repeats its prompt"
    assert len(answer.source_nodes) == 4
