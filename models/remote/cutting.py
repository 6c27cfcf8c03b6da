"""Split requests to fit a provider's limits. Tokens are estimated, without a tokenizer."""

from __future__ import annotations

from collections.abc import Sequence

from models.types import Document

# UTF-8 bytes per token: about four in English, three in Chinese and Japanese. Using three makes the
# estimate too high rather than too low.
BYTES_PER_TOKEN = 3
_IMAGE_TOKENS = 1000


def estimate(document: Document) -> int:
    """Estimated tokens of a document, at least 1."""
    if isinstance(document, str):
        return -(-len(document.encode()) // BYTES_PER_TOKEN) or 1
    return _IMAGE_TOKENS + estimate(document.text)


def shorten(text: str, *, chars: int | None = None, tokens: int | None = None) -> str:
    """The start of the text, of at most `chars` characters and `tokens` estimated tokens."""
    if chars is not None:
        text = text[:chars]
    if tokens is not None and estimate(text) > tokens:
        text = text.encode()[: tokens * BYTES_PER_TOKEN].decode(errors="ignore")
    return text


def calls(
    query_tokens: int, tokens: Sequence[int], *, max_documents: int, max_tokens: int | None
) -> list[range]:
    """The documents of each call, in order. Only a call with one document may exceed max_tokens."""
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
    """Split `total` in proportion to the weights, into integers that add up to it."""
    total_weight = sum(weights)
    shared: list[int] = []
    weight_so_far = shared_so_far = 0
    for weight in weights:
        weight_so_far += weight
        upto = total * weight_so_far // total_weight
        shared.append(upto - shared_so_far)
        shared_so_far = upto
    return shared
