"""The API key in a request's headers."""

from __future__ import annotations

from collections.abc import Iterable

# The SDKs of Cohere and Voyage send `authorization`, those of Azure and Pinecone `api-key`.
HEADERS = (b"authorization", b"x-api-key", b"api-key")
SCHEMES = (b"bearer", b"token", b"apikey")
MAX_KEY_BYTES = 512
# A client may send a gateway's key as well as ours, but not a list of guesses.
MAX_CANDIDATES = 4


def candidates(headers: Iterable[tuple[bytes, bytes]]) -> list[bytes]:
    """Header values that may be a key, in the order of `HEADERS`. Accepts any bytes."""
    sent: dict[bytes, list[bytes]] = {name: [] for name in HEADERS}
    for name, value in headers:
        if (name := name.lower()) in sent:
            key = _authorization(value) if name == b"authorization" else value.strip()
            if key:
                sent[name].append(key)
    found = [key for name in HEADERS for key in sent[name]]
    return list(dict.fromkeys(found))[:MAX_CANDIDATES]


def is_key_like(candidate: bytes) -> bool:
    """False for a value that can't be a key, so that long values are not hashed."""
    return len(candidate) <= MAX_KEY_BYTES and not candidate.split()[1:]


def _authorization(value: bytes) -> bytes:
    """The key of `Bearer KEY`, `Token KEY` or `KEY`; empty if there is none."""
    words = value.split(maxsplit=1)
    if not words or (len(words) == 1 and words[0].lower() in SCHEMES):
        return b""
    if words[0].lower() in SCHEMES:
        return words[1].strip()
    # Another scheme (`Basic …`) is not for this service.
    return words[0] if len(words) == 1 else b""
