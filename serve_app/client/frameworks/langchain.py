"""A LangChain document compressor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import ConfigDict, Field

from serve_app.client.reranker import Reranker
from serve_app.client.results import RerankResults
from serve_app.errors import installed_by

with installed_by("clients"):
    from langchain_core.documents import BaseDocumentCompressor, Document

SCORE = "relevance_score"


class RerankCompressor(BaseDocumentCompressor):
    """Keeps the `top_n` most relevant documents, best first; None keeps all.

    Each document's metadata gets its score as `relevance_score`. Documents that score below
    `min_score` are dropped. `options` are passed to Reranker.rerank: model, instruction,
    batch_size, ….
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    reranker: Reranker = Field(default_factory=Reranker, exclude=True)
    top_n: int | None = Field(3, ge=1)
    min_score: float | None = None
    options: dict[str, Any] = Field(default_factory=dict)

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Any = None
    ) -> list[Document]:
        """Rank `documents`. Raises a RerankError."""
        found = self.reranker.rerank(query, documents, top_k=self.top_n, **self.options)
        return self._scored(found)

    async def acompress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Any = None
    ) -> list[Document]:
        """Rank `documents`. Raises a RerankError."""
        found = await self.reranker.arerank(query, documents, top_k=self.top_n, **self.options)
        return self._scored(found)

    def _scored(self, found: RerankResults[Document]) -> list[Document]:
        # Copies, since the retriever's documents may be the objects in its store.
        return [
            hit.document.model_copy(update={"metadata": {**hit.metadata, SCORE: hit.score}})
            for hit in found
            if self.min_score is None or hit.score >= self.min_score
        ]
