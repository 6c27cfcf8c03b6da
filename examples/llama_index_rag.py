"""Retrieval-augmented generation in LlamaIndex: retrieve, fuse, rerank, answer."""

from __future__ import annotations

from typing import Any

from llama_index.core import VectorStoreIndex, get_response_synthesizer
from llama_index.core.embeddings import BaseEmbedding
from llama_index.core.llms import LLM, MockLLM
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.response_synthesizers import BaseSynthesizer, ResponseMode
from llama_index.core.response_synthesizers.no_text import NoText
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode

from examples.rag.protocols import Embedder, Passage
from examples.rag.ranking import fuse
from examples.rag.stores import Bm25
from serve_app.client.frameworks.llama_index import RerankPostprocessor

CANDIDATES = 50


class LlamaIndexEmbedder(BaseEmbedding):
    """Adapts the example's embedder to LlamaIndex."""

    embedder: Any

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embeddings([query])[0]

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_query_embedding(query)

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        vectors: list[list[float]] = self.embedder.embed(texts).tolist()
        return vectors


class FusionRetriever(BaseRetriever):
    """Retrieves nodes by BM25 and by vectors, and fuses both rankings."""

    def __init__(self, passages: list[Passage], index: VectorStoreIndex) -> None:
        super().__init__()
        self._bm25 = Bm25(passages)
        self._index = index
        self._vectors = index.as_retriever(similarity_top_k=CANDIDATES)

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        nearest = [node.node_id for node in self._vectors.retrieve(query_bundle)]
        ranked = fuse([self._bm25.search(query_bundle.query_str, CANDIDATES), nearest])
        return [NodeWithScore(node=node) for node in self._index.docstore.get_nodes(ranked)]


def rag_engine(
    passages: list[Passage],
    *,
    embedder: Embedder,
    postprocessor: RerankPostprocessor,
    llm: LLM | None = None,
) -> RetrieverQueryEngine:
    """Build a query engine over `passages`. Without a model, it returns source nodes only."""
    nodes = [TextNode(id_=p.id, text=p.text, metadata=dict(p.metadata)) for p in passages]
    for node in nodes:
        node.excluded_embed_metadata_keys = list(node.metadata)
    index = VectorStoreIndex(nodes, embed_model=LlamaIndexEmbedder(embedder=embedder))
    if llm is None:
        # Without a mock, LlamaIndex would load OpenAI's model although no text is generated.
        synthesizer: BaseSynthesizer = NoText(llm=MockLLM())
    else:
        synthesizer = get_response_synthesizer(llm=llm, response_mode=ResponseMode.COMPACT)
    return RetrieverQueryEngine(
        FusionRetriever(passages, index),
        response_synthesizer=synthesizer,
        node_postprocessors=[postprocessor],
    )
