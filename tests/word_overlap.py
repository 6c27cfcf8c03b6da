"""The scoring rule of the tests' fake models."""

from __future__ import annotations


def shared_words(query: str, document: str) -> int:
    """Return the number of distinct words that the query and the document have in common."""
    return len(set(query.split()) & set(document.split()))
