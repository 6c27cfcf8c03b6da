"""BM25 over documents that are streamed once and not kept in memory."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence

import bm25s
import numpy as np
from bm25s.tokenization import Tokenized, Tokenizer

from serve_app.evaluate.dataset import EvalError

NAME = "BM25"


class Bm25:
    """A BM25 index over document ids; English stop words are removed, without stemming.

    While building, it holds word ids (four bytes each) and document ids, but no texts.
    """

    def __init__(self, documents: Iterable[tuple[str, str]]) -> None:
        """Index (id, text) pairs. Raises EvalError for duplicate ids or if there are no words."""
        self._tokenizer = Tokenizer(stopwords="en")
        self.positions: dict[str, int] = {}
        words: list[array[int]] = []
        for ids in self._tokenizer.streaming_tokenize(self._texts(documents)):
            words.append(array("i", ids))
        if len(self._tokenizer.word_to_id) < 2:  # the vocabulary always has the empty word
            raise EvalError("the corpus contains no words to search")
        self._ids = list(self.positions)
        self._index = bm25s.BM25()
        self._index.index(
            Tokenized(ids=words, vocab=self._tokenizer.get_vocab_dict()), show_progress=False
        )

    def __len__(self) -> int:
        return len(self._ids)

    def search(self, query: str, k: int) -> list[tuple[str, float]]:
        """Return the k best documents that share a word with the query, best first."""
        scores = self._scores(query)
        found = np.flatnonzero(scores > 0)
        if len(found) > k:
            found = found[np.argpartition(-scores[found], k - 1)[:k]]
        order = found[np.lexsort((found, -scores[found]))]
        return [(self._ids[i], float(scores[i])) for i in order]

    def scores(self, query: str, ids: Sequence[str]) -> list[float]:
        """Return the scores of documents in the index."""
        scores = self._scores(query)
        return [float(scores[self.positions[key]]) for key in ids]

    def _texts(self, documents: Iterable[tuple[str, str]]) -> Iterator[str]:
        for key, text in documents:
            if key in self.positions:
                raise EvalError(f"duplicate document {key!r} in the corpus")
            self.positions[key] = len(self.positions)
            yield text

    def _scores(self, query: str) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        (ids,) = self._tokenizer.streaming_tokenize([query], update_vocab="never")
        scores: np.ndarray[tuple[int], np.dtype[np.float32]] = self._index.get_scores_from_ids(ids)
        return scores
