"""Retrieval-augmented generation in LangChain: retrieve, fuse, rerank, answer.

`rag_chain` builds a chain from a question to {"question", "candidates", "documents", "answer"}.
"""

from __future__ import annotations

from typing import Any

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseChatModel
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable, RunnableLambda, RunnableParallel, RunnablePassthrough
from langchain_core.vectorstores import InMemoryVectorStore

from examples.rag.protocols import Embedder, Passage
from examples.rag.ranking import fuse
from examples.rag.stores import Bm25
from serve_app.client.frameworks.langchain import RerankCompressor

CANDIDATES = 50
PROMPT = ChatPromptTemplate.from_template(
    "Answer using only the passages.\n\n{passages}\n\nQuestion: {question}"
)


class LangChainEmbedder(Embeddings):
    """Adapts the example's embedder to LangChain."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        vectors: list[list[float]] = self._embedder.embed(texts).tolist()
        return vectors

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]


def rag_chain(
    passages: list[Passage],
    *,
    embedder: Embedder,
    compressor: RerankCompressor,
    model: BaseChatModel | None = None,
) -> Runnable[str, dict[str, Any]]:
    """Build a chain over `passages`. Without a model, the answer is the best passage's text."""
    documents = {p.id: Document(p.text, id=p.id, metadata=dict(p.metadata)) for p in passages}
    store = InMemoryVectorStore(LangChainEmbedder(embedder))
    store.add_documents(list(documents.values()))
    words = Bm25(passages)

    def retrieve(question: str) -> list[Document]:
        nearest = store.similarity_search(question, k=CANDIDATES)
        ranked = fuse([words.search(question, CANDIDATES), [d.id or "" for d in nearest]])
        return [documents[id] for id in ranked]

    def rerank(found: dict[str, Any]) -> list[Document]:
        return compressor.compress_documents(found["candidates"], found["question"])

    async def arerank(found: dict[str, Any]) -> list[Document]:
        return await compressor.acompress_documents(found["candidates"], found["question"])

    def numbered(found: dict[str, Any]) -> str:
        return "\n\n".join(f"[{n}] {d.page_content}" for n, d in enumerate(found["documents"], 1))

    answer: Runnable[Any, str]
    if model is None:
        answer = RunnableLambda(lambda found: found["documents"][0].page_content)
    else:
        answer = RunnablePassthrough.assign(passages=numbered) | PROMPT | model | StrOutputParser()
    return (
        RunnableParallel(question=RunnablePassthrough(), candidates=RunnableLambda(retrieve))
        | RunnablePassthrough.assign(documents=RunnableLambda(rerank, afunc=arerank))
        | RunnablePassthrough.assign(answer=answer)
    )
