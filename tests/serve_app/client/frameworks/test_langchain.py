"""The LangChain document compressor."""

from __future__ import annotations

import pytest
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage

from examples.langchain_rag import rag_chain
from examples.rag.protocols import Passage
from serve_app.client import Reranker
from serve_app.client.frameworks.langchain import RerankCompressor
from serve_app.errors import UnknownModel
from tests.serve_app.client.frameworks.conftest import ANSWER, QUESTION, HashEmbedder

DOCUMENTS = [
    Document("stocks fell", metadata={"n": 0}, id="a"),
    Document("pandas eat bamboo", metadata={"n": 1}, id="b"),
    Document("bears eat", id="c"),
]


async def test_documents_are_ranked_and_keep_their_metadata(reranker: Reranker) -> None:
    compressor = RerankCompressor(reranker=reranker, top_n=2)
    assert isinstance(compressor, BaseDocumentCompressor)
    found = compressor.compress_documents(DOCUMENTS, "pandas eat")
    assert found == await compressor.acompress_documents(DOCUMENTS, "pandas eat")
    assert [d.id for d in found] == ["b", "c"]
    assert found[0].metadata == {"n": 1, "relevance_score": 2.0}
    assert DOCUMENTS[1].metadata == {"n": 1}, "the input documents are unchanged"
    assert compressor.compress_documents([], "pandas") == []


def test_minimum_score_and_options(reranker: Reranker) -> None:
    compressor = RerankCompressor(reranker=reranker, top_n=None, min_score=1.5)
    assert [d.id for d in compressor.compress_documents(DOCUMENTS, "pandas eat")] == ["b"]
    with pytest.raises(UnknownModel):
        RerankCompressor(reranker=reranker, options={"model": "none"}).compress_documents(
            DOCUMENTS, "q"
        )


async def test_it_reranks_in_a_retrieval_chain(reranker: Reranker, passages: list[Passage]) -> None:
    compressor = RerankCompressor(reranker=reranker, top_n=4)
    chain = rag_chain(passages, embedder=HashEmbedder(), compressor=compressor)
    found = chain.invoke(QUESTION)
    assert len(found["candidates"]) >= 50
    assert found["documents"][0].id == ANSWER
    scores = [d.metadata["relevance_score"] for d in found["documents"]]
    assert scores == sorted(scores, reverse=True)
    assert found["answer"] == found["documents"][0].page_content
    model = GenericFakeChatModel(messages=iter([AIMessage("By wrap [1].")]))
    chain = rag_chain(passages, embedder=HashEmbedder(), compressor=compressor, model=model)
    answered = await chain.ainvoke(QUESTION)
    assert answered["answer"] == "By wrap [1]."
    assert answered["documents"] == found["documents"]
