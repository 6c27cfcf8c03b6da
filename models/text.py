"""Cleans text for the models. Imports no torch: the ingress uses it for cache keys."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from functools import lru_cache

# Maximum length of a run of combining marks in a text that is not in NFC: that of Unicode's
# stream-safe text format (UAX #15). Sorting the marks of a run takes quadratic time.
MAX_MARKS = 30
# COMBINING GRAPHEME JOINER, which the stream-safe format inserts into longer runs.
JOINER = "\u034f"
# Long texts are cleaned in pieces of about this many characters, because every call into C holds
# the interpreter's lock from its start to its end, also in a thread.
PIECE_CHARS = 65_536

_SURROGATE = re.compile("[\ud800-\udfff]")
_CONTROL = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f]")
# Matches every run of too many combining marks: they are neither letters nor digits.
_MAYBE_MARKS = re.compile(rf"[^\w\s\x00-\x7f]{{{MAX_MARKS + 1},}}")
# The letters that compose with the character before them: vowels and finals of Hangul, and vowels
# of Kirat Rai. All others that do are marks.
_JOINING_LETTERS = re.compile("[\u1160-\u11ff\U00016d63-\U00016d6a]")


def well_formed(text: str) -> str:
    """Replace lone surrogates, which no tokenizer accepts, by U+FFFD."""
    return text if text.isascii() else _in_slices(_SURROGATE, "\ufffd", text)


def normalize(text: str) -> str:
    """Convert to Unicode NFC, remove control characters and collapse white space.

    Takes linear time: a joiner splits runs of more than MAX_MARKS combining marks, unless the text
    is already in NFC.
    """
    if len(text) > PIECE_CHARS:
        return _normalize_long(text)
    # Control characters first: one between a letter and its accent would prevent composition.
    text = _CONTROL.sub("", text)
    if not text.isascii():
        text = _nfc(_SURROGATE.sub("\ufffd", text))
    return " ".join(text.split())


def _normalize_long(text: str) -> str:
    """Do the same in pieces."""
    text = _in_slices(_CONTROL, "", text)
    if not text.isascii():
        text = well_formed(text)
        text = "".join([_nfc(piece) for piece in pieces(text, _nfc_boundary)])
    words = [" ".join(piece.split()) for piece in pieces(text, _before_space)]
    return " ".join(filter(None, words))


def _in_slices(char: re.Pattern[str], replacement: str, text: str) -> str:
    """Replace every match of a pattern for one character."""
    if len(text) <= PIECE_CHARS:
        return char.sub(replacement, text)
    starts = range(0, len(text), PIECE_CHARS)
    return "".join([char.sub(replacement, text[i : i + PIECE_CHARS]) for i in starts])


def pieces(text: str, boundary: Callable[[str, int], int]) -> Iterator[str]:
    """Split a text at the first `boundary` after every PIECE_CHARS characters.

    `boundary` returns the first position from the given one at which the text may be split.
    """
    start = 0
    while start < len(text):
        end = boundary(text, start + PIECE_CHARS)
        yield text[start:end]
        start = end


def before(pattern: re.Pattern[str]) -> Callable[[str, int], int]:
    """Return a boundary: the position of the next match."""

    def boundary(text: str, start: int) -> int:
        found = pattern.search(text, start)
        return found.start() if found else len(text)

    return boundary


_before_space = before(re.compile(r"\s"))


def _nfc_boundary(text: str, start: int) -> int:
    """The first position from `start` at which the text can be split without changing its NFC."""
    while start < len(text) and _joins(text[start]):
        start += 1
    return start


def _joins(char: str) -> bool:
    """Whether the character may compose or change places with the one before it."""
    if char == JOINER:
        return False
    return unicodedata.category(char)[0] == "M" or _JOINING_LETTERS.match(char) is not None


def _nfc(text: str) -> str:
    # Linear: marks that are out of order are found before anything is sorted.
    if unicodedata.is_normalized("NFC", text):
        return text
    safe = _MAYBE_MARKS.sub(_stream_safe, text)
    return "".join([unicodedata.normalize("NFC", piece) for piece in pieces(safe, _nfc_boundary)])


def _stream_safe(found: re.Match[str]) -> str:
    """Insert a joiner after every MAX_MARKS combining marks of a run."""
    text = found[0]
    parts: list[str] = []
    start = marks = 0
    for i, char in enumerate(text):
        marks = marks + 1 if _is_mark(char) else 0
        if marks > MAX_MARKS:
            parts += (text[start:i], JOINER)
            start, marks = i, 1
    return "".join([*parts, text[start:]])


@lru_cache(maxsize=4096)
def _is_mark(char: str) -> bool:
    # Some marks have combining class 0, but decompose into marks of other classes.
    return unicodedata.combining(unicodedata.normalize("NFD", char)[0]) != 0
