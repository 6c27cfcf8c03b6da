from __future__ import annotations

import re
import subprocess
import sys
import unicodedata
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import text as cleaning
from models.text import MAX_MARKS, normalize, well_formed

# Every code point, including lone surrogates.
ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()))


@given(ANY_TEXT)
def test_normalized_text_is_clean_and_does_not_change_again(text: str) -> None:
    clean = normalize(text)
    assert clean == normalize(clean) == unicodedata.normalize("NFC", clean)
    assert clean == clean.strip()
    assert not any(unicodedata.category(c) in {"Cc", "Cs"} for c in clean)
    assert "  " not in clean


# Letters, marks of several classes, vowels that compose, controls and white space, side by side.
DENSE_TEXT = st.text(
    st.sampled_from(
        "ae \n\x01\u0301\u0316\u0344\u034f\u0f71\u0f73\u1100\u1161\u11a8\uac00\u09c7\u09be"
    )
)


@given(ANY_TEXT | DENSE_TEXT)
def test_a_long_text_is_normalized_in_pieces_with_the_same_result(text: str) -> None:
    whole = normalize(text)
    with patch.object(cleaning, "PIECE_CHARS", 2):
        assert normalize(text) == whole


@given(DENSE_TEXT)
def test_texts_with_realistic_runs_of_marks_are_converted_to_plain_nfc(text: str) -> None:
    plain = re.sub("[\x00-\x08]", "", text)
    assert normalize(text) == " ".join(unicodedata.normalize("NFC", plain).split())


@pytest.mark.parametrize(
    "marks", ["\u0301\u0316", "\u0301" * 400 + "\u0316" * 400, "\u0f73\u0f71", "\u0344\u0316"]
)
def test_runs_of_marks_are_bounded_so_that_sorting_them_takes_linear_time(marks: str) -> None:
    text = "a" + marks * (800 // len(marks)) + "b"
    clean = normalize(text)
    assert clean == normalize(clean)
    runs = re.split("[^\u0300-\u034e\u0f71-\u0f74]", unicodedata.normalize("NFD", clean))
    # A joiner comes after every MAX_MARKS characters, each of which decomposes into at most two.
    assert max(map(len, runs)) <= 2 * MAX_MARKS
    without = clean.replace("\u034f", "")
    assert unicodedata.normalize("NFC", without) == unicodedata.normalize("NFC", text)


def test_marks_in_canonical_order_are_kept_as_they_are() -> None:
    text = "x" + "\u0316" * 500 + "\u0302" * 500
    assert normalize(text) == text


def test_the_marks_and_joining_letters_of_this_unicode_version_are_recognised() -> None:
    chars = [chr(i) for i in range(sys.maxunicode + 1)]
    decomposed = [unicodedata.normalize("NFD", c) for c in chars]
    marks = {c for c, d in zip(chars, decomposed, strict=True) if unicodedata.combining(d[0])}
    assert all(cleaning._MAYBE_MARKS.fullmatch(c * (MAX_MARKS + 1)) for c in marks)
    seconds = {d[-1] for c, d in zip(chars, decomposed, strict=True) if len(d) > 1}
    composing = {c for c in seconds | marks if not "\uac00" <= c <= "\ud7a3"}
    assert all(cleaning._joins(c) for c in composing)


@given(ANY_TEXT)
def test_well_formed_changes_only_lone_surrogates(text: str) -> None:
    assert well_formed(text) == "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in text)
    well_formed(text).encode()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  a\n\tb  c ", "a b c"),
        ("cafe\u0301", "café"),
        ("e\x00\u0301", "é"),
        ("a\x00b\x7f", "ab"),
        ("a\ud800b", "a\ufffdb"),
        ("", ""),
        (" \n ", ""),
        ("👩‍👩‍👧", "👩‍👩‍👧"),
    ],
)
def test_known_texts_are_normalized(text: str, expected: str) -> None:
    assert normalize(text) == expected


def test_text_and_batching_import_no_torch() -> None:
    code = "import sys, models.text, models.batching, models.types; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
