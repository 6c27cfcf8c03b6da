"""Where a client's key may stand in its request's headers."""

from __future__ import annotations

from collections.abc import Iterable

# `authorization` is what the SDKs of Cohere and Voyage send; `api-key` Azure's and Pinecone's.
HEADERS = (b"authorization", b"x-api-key", b"api-key")
SCHEMES = (b"bearer", b"token", b"apikey")
MAX_KEY_BYTES = 512
# A client may send the key of a gateway beside ours, not a list of guesses.
MAX_CANDIDATES = 4


def candidates(headers: Iterable[tuple[bytes, bytes]]) -> list[bytes]:
    """What may be a key, in the order of `HEADERS`; any bytes are taken, none raise."""
    sent: dict[bytes, list[bytes]] = {name: [] for name in HEADERS}
    for name, value in headers:
        if (name := name.lower()) in sent:
            key = _authorization(value) if name == b"authorization" else value.strip()
            if key:
                sent[name].append(key)
    found = [key for name in HEADERS for key in sent[name]]
    return list(dict.fromkeys(found))[:MAX_CANDIDATES]


def is_key_like(candidate: bytes) -> bool:
    """False for what can't be a key, so that nothing long is hashed."""
    return len(candidate) <= MAX_KEY_BYTES and not candidate.split()[1:]


def _authorization(value: bytes) -> bytes:
    """`Bearer KEY`, `Token KEY`, or the key alone; empty where there is none."""
    words = value.split(maxsplit=1)
    if not words or (len(words) == 1 and words[0].lower() in SCHEMES):
        return b""
    if words[0].lower() in SCHEMES:
        return words[1].strip()
    # Another scheme with its own credentials (`Basic …`) is somebody else's.
    return words[0] if len(words) == 1 else b""
