"""The RAG pipeline: retrieve by BM25 and by vectors, fuse, rerank, diversify, answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from examples.rag.protocols import Embedder, Model, Passage, VectorStore
from examples.rag.ranking import diversify, fuse
from examples.rag.stores import Bm25
from serve_app.client import Reranker


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer; [1], [2], … in `text` refer to `passages`, in order."""

    text: str
    passages: tuple[Passage, ...]
    scores: tuple[float, ...]


class Rag:
    """Answers questions from passages.

    BM25 and the vector store each retrieve `candidates` passages, of which the reranker keeps
    `considered` and the answer uses `used`.
    """

    def __init__(
        self,
        passages: Sequence[Passage],
        *,
        embedder: Embedder,
        store: VectorStore,
        reranker: Reranker,
        model: Model,
        candidates: int = 50,
        considered: int = 10,
        used: int = 4,
    ) -> None:
        self._passages = {passage.id: passage for passage in passages}
        self._bm25 = Bm25(passages)
        self._embedder, self._store = embedder, store
        self._reranker, self._model = reranker, model
        self._candidates, self._considered, self._used = candidates, considered, used
        store.add(list(self._passages), embedder.embed([p.text for p in passages]))

    def retrieve(self, question: str) -> list[Passage]:
        """Retrieve candidates by BM25 and by vectors, and fuse both rankings."""
        by_words = self._bm25.search(question, self._candidates)
        vector = self._embedder.embed([question])[0]
        by_vectors = self._store.search(vector, self._candidates)
        return [self._passages[id] for id in fuse([by_words, by_vectors])]

    def ask(self, question: str) -> Answer:
        """Answer a question. Raises a RerankError if reranking fails."""
        best = self._reranker.rerank(question, self.retrieve(question), top_k=self._considered)
        vectors = self._store.get([hit.document.id for hit in best])
        order = diversify([hit.score for hit in best], vectors, self._used)
        hits = [best[i] for i in order]
        passages = tuple(hit.document for hit in hits)
        text = self._model.answer(question, passages)
        return Answer(text, passages, tuple(hit.score for hit in hits))
