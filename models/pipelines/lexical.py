"""BM25 over a request's own documents, by bm25s: Robertson and Zaragoza, "The Probabilistic
Relevance Framework: BM25 and Beyond" (2009), in Lucene's form."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

# A word of two characters or more; in scripts without spaces each character.
_NO_SPACES = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
TOKENS = rf"(?u)[{_NO_SPACES}]|[^\W{_NO_SPACES}]{{2,}}"


def installed() -> bool:
    """Whether bm25s is there (extra `pipelines`)."""
    return find_spec("bm25s") is not None


def bm25(query: str, documents: Sequence[str]) -> list[float]:
    """Scores [documents]; 0 where a document shares no word with the query.

    k1 is 1.5, b 0.75; frequencies are those of the documents given. English stop words are left
    out. Raises ModuleNotFoundError without bm25s.
    """
    import bm25s

    *texts, asked = bm25s.tokenize(
        [*documents, query],
        token_pattern=TOKENS,
        stopwords="en",
        return_ids=False,
        show_progress=False,
    )
    vocabulary = {token for text in texts for token in text}
    known = [token for token in asked if token in vocabulary]
    if not known:
        return [0.0] * len(documents)
    index = bm25s.BM25()
    index.index(texts, show_progress=False)
    return [float(score) for score in index.get_scores(known)]
