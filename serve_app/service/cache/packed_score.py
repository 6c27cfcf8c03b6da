"""The shared store's value format: a packed score with a checksum."""

from __future__ import annotations

import math
import struct
import zlib

from models.types import Score

# Logit as float64, tokens, passages, flags; then a checksum of the key and the body.
_BODY = struct.Struct("<dIIB")
_CHECK = struct.Struct("<I")
SIZE = _BODY.size + _CHECK.size
_TRUNCATED = 1


def pack(key: bytes, score: Score) -> bytes | None:
    """Pack a score into `SIZE` bytes. None if a field is out of range."""
    try:
        body = _BODY.pack(score.logit, score.tokens, score.passages, score.truncated * _TRUNCATED)
    except struct.error:
        return None
    return body + _CHECK.pack(zlib.crc32(body, zlib.crc32(key)))


def unpack(key: bytes, value: object) -> Score | None:
    """Return the packed score. None if the value is not a valid score packed for this key."""
    if not isinstance(value, bytes) or len(value) != SIZE:
        return None
    body = value[: _BODY.size]
    if _CHECK.unpack_from(value, _BODY.size)[0] != zlib.crc32(body, zlib.crc32(key)):
        return None
    logit, tokens, passages, flags = _BODY.unpack(body)
    if not math.isfinite(logit):
        return None
    return Score(logit, tokens, bool(flags & _TRUNCATED), passages)
