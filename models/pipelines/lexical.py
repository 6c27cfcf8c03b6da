"""BM25 over the documents of a request, with bm25s: Robertson and Zaragoza, "The Probabilistic
Relevance Framework: BM25 and Beyond" (2009), in Lucene's variant."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.util import find_spec

from models.text import before, pieces

# A word of at least two characters; in scripts without spaces, a single character.
_NO_SPACES = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
TOKENS = rf"(?u)[{_NO_SPACES}]|[^\W{_NO_SPACES}]{{2,}}"
_BETWEEN_TOKENS = before(re.compile(rf"[\W{_NO_SPACES}]"))


def installed() -> bool:
    """Whether bm25s is installed (extra `pipelines`)."""
    return find_spec("bm25s") is not None


def bm25(query: str, documents: Sequence[str]) -> list[float]:
    """Scores [documents]; 0 for a document that shares no word with the query.

    k1 is 1.5, b is 0.75; document frequencies are those of the given documents. English stop words
    are ignored. Raises ModuleNotFoundError without bm25s.
    """
    import bm25s

    # A long document is tokenized in pieces: one call holds the interpreter's lock to its end.
    owners: list[int] = []
    parts: list[str] = []
    for i, text in enumerate([*documents, query]):
        for part in pieces(text.lower(), _BETWEEN_TOKENS):
            owners.append(i)
            parts.append(part)
    texts: list[list[str]] = [[] for _ in range(len(documents) + 1)]
    found = bm25s.tokenize(
        parts,
        lower=False,
        token_pattern=TOKENS,
        stopwords="en",
        return_ids=False,
        show_progress=False,
    )
    for i, tokens in zip(owners, found, strict=True):
        texts[i] += tokens
    query_tokens = texts.pop()
    # Of the other words, scores depend only on the number: they count as one.
    asked = set(query_tokens)
    texts = [[token if token in asked else "" for token in tokens] for tokens in texts]
    vocabulary = {token for text in texts for token in text}
    known = [token for token in query_tokens if token in vocabulary]
    if not known:
        return [0.0] * len(documents)
    index = bm25s.BM25()
    index.index(texts, show_progress=False)
    return [float(score) for score in index.get_scores(known)]
