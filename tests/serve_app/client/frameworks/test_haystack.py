"""The Haystack ranker."""

from __future__ import annotations

import pytest
from haystack import Document, Pipeline
from haystack.components.joiners import DocumentJoiner
from haystack.components.retrievers.in_memory import (
    InMemoryBM25Retriever,
    InMemoryEmbeddingRetriever,
)
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.utils import Secret

from examples.rag.protocols import Passage
from serve_app.client.frameworks.haystack import RerankRanker
from tests.serve_app.client.frameworks.conftest import ANSWER, QUESTION, HashEmbedder

DOCUMENTS = [
    Document(content="stocks fell", meta={"n": 0}),
    Document(content="pandas eat bamboo", meta={"place": "zoo"}),
    Document(content="bears eat"),
]


async def test_documents_are_ranked_and_keep_their_metadata(url: str) -> None:
    ranker = RerankRanker(url, top_k=2)
    found = ranker.run("pandas eat", DOCUMENTS)["documents"]
    assert found == (await ranker.run_async("pandas eat", DOCUMENTS))["documents"]
    assert [(d.id, d.score) for d in found] == [(DOCUMENTS[1].id, 2.0), (DOCUMENTS[2].id, 1.0)]
    assert found[0].meta == {"place": "zoo"}
    assert DOCUMENTS[1].score is None
    assert len(ranker.run("pandas eat", DOCUMENTS, top_k=1)["documents"]) == 1
    assert len(ranker.run("pandas eat", DOCUMENTS, score_threshold=1.5)["documents"]) == 1
    assert ranker.run("pandas eat", [])["documents"] == []


def test_metadata_can_be_part_of_the_text(url: str) -> None:
    ranker = RerankRanker(url, meta_fields_to_embed=["place", "n"])
    assert ranker.run("zoo", DOCUMENTS)["documents"][0].meta == {"place": "zoo"}


def test_serialization_round_trips_without_the_key(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "secret-key")
    ranker = RerankRanker(url, api_key=Secret.from_env_var("MY_KEY"), top_k=1, model="words")
    pipeline = Pipeline()
    pipeline.add_component("ranker", ranker)
    text = pipeline.dumps()
    assert "secret-key" not in text
    again = Pipeline.loads(text, unsafe=True).get_component("ranker")
    assert again.to_dict() == ranker.to_dict()
    assert len(again.run("pandas", DOCUMENTS)["documents"]) == 1
    assert RerankRanker.from_dict(RerankRanker(url, api_key=None).to_dict()).api_key is None


def test_it_reranks_in_a_retrieval_pipeline(url: str, passages: list[Passage]) -> None:
    embedder = HashEmbedder()
    vectors = embedder.embed([p.text for p in passages]).tolist()
    store = InMemoryDocumentStore()
    store.write_documents(
        [
            Document(id=p.id, content=p.text, meta=dict(p.metadata), embedding=vector)
            for p, vector in zip(passages, vectors, strict=True)
        ]
    )
    pipeline = Pipeline()
    pipeline.add_component("words", InMemoryBM25Retriever(store, top_k=50))
    pipeline.add_component("vectors", InMemoryEmbeddingRetriever(store, top_k=50))
    pipeline.add_component("join", DocumentJoiner(join_mode="reciprocal_rank_fusion"))
    pipeline.add_component("ranker", RerankRanker(url, top_k=4))
    pipeline.connect("words", "join")
    pipeline.connect("vectors", "join")
    pipeline.connect("join", "ranker.documents")
    found = pipeline.run(
        {
            "words": {"query": QUESTION},
            "vectors": {"query_embedding": embedder.embed([QUESTION])[0].tolist()},
            "ranker": {"query": QUESTION},
        }
    )["ranker"]["documents"]
    assert found[0].id == ANSWER
    assert [d.score for d in found] == sorted([d.score for d in found], reverse=True)
