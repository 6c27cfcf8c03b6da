"""Text as a model should see it. Imports no torch: the ingress process uses it for cache keys."""

from __future__ import annotations

import re
import unicodedata

_SURROGATE = re.compile("[\ud800-\udfff]")
_CONTROL = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f]")


def well_formed(text: str) -> str:
    """Lone surrogates, which no tokenizer takes, become U+FFFD; the rest stays as it is."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def normalize(text: str) -> str:
    """Unicode NFC, control characters removed, runs of white space made one space."""
    # Control characters go first: one between a letter and its accent would keep NFC from joining.
    text = _CONTROL.sub("", text)
    if not text.isascii():
        text = unicodedata.normalize("NFC", _SURROGATE.sub("\ufffd", text))
    return " ".join(text.split())
