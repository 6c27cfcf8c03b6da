"""Requests cut to what a provider takes in a call. Tokens are estimated: there is no tokenizer."""

from __future__ import annotations

from collections.abc import Sequence

from models.types import Document

# UTF-8 bytes for a token: English text has about four, Chinese and Japanese three, so that the
# estimate is rather too high than too low.
BYTES_PER_TOKEN = 3
_IMAGE_TOKENS = 1000


def estimate(document: Document) -> int:
    """Tokens of a document, at least one."""
    if isinstance(document, str):
        return -(-len(document.encode()) // BYTES_PER_TOKEN) or 1
    return _IMAGE_TOKENS + estimate(document.text)


def shorten(text: str, *, chars: int | None = None, tokens: int | None = None) -> str:
    """The text's beginning, of at most so many characters and (estimated) tokens."""
    if chars is not None:
        text = text[:chars]
    if tokens is not None and estimate(text) > tokens:
        text = text.encode()[: tokens * BYTES_PER_TOKEN].decode(errors="ignore")
    return text


def calls(
    query_tokens: int, tokens: Sequence[int], *, max_documents: int, max_tokens: int | None
) -> list[range]:
    """The documents of each call, in order. A document alone is over the bound where it must."""
    parts: list[range] = []
    start, used = 0, 0
    for i, own in enumerate(tokens):
        cost = query_tokens + own
        full = i - start == max_documents or (max_tokens is not None and used + cost > max_tokens)
        if full and i > start:
            parts.append(range(start, i))
            start, used = i, 0
        used += cost
    if tokens:
        parts.append(range(start, len(tokens)))
    return parts


def shares(total: int, weights: Sequence[int]) -> list[int]:
    """`total` shared out by weight in whole numbers that add up to it."""
    weighed = sum(weights)
    shared: list[int] = []
    seen = given = 0
    for weight in weights:
        seen += weight
        upto = total * seen // weighed
        shared.append(upto - given)
        given = upto
    return shared
