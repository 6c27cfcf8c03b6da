"""Cleans text for the models. Imports no torch: the ingress uses it for cache keys."""

from __future__ import annotations

import re
import unicodedata

_SURROGATE = re.compile("[\ud800-\udfff]")
_CONTROL = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f]")


def well_formed(text: str) -> str:
    """Replace lone surrogates, which no tokenizer accepts, by U+FFFD."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def normalize(text: str) -> str:
    """Convert to Unicode NFC, remove control characters and collapse white space."""
    # Control characters first: one between a letter and its accent would prevent composition.
    text = _CONTROL.sub("", text)
    if not text.isascii():
        text = unicodedata.normalize("NFC", _SURROGATE.sub("\ufffd", text))
    return " ".join(text.split())
