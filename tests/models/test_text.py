from __future__ import annotations

import subprocess
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.text import normalize, well_formed

# Every code point, including lone surrogates.
ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()))


@given(ANY_TEXT)
def test_normalized_text_is_clean_and_does_not_change_again(text: str) -> None:
    clean = normalize(text)
    assert clean == normalize(clean) == unicodedata.normalize("NFC", clean)
    assert clean == clean.strip()
    assert not any(unicodedata.category(c) in {"Cc", "Cs"} for c in clean)
    assert "  " not in clean


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
