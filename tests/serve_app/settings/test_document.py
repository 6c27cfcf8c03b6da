"""docs/settings.md contains every setting."""

from __future__ import annotations

from pathlib import Path

from serve_app.settings.document import table
from serve_app.settings.settings import DECLARED

ROOT = Path(__file__).parents[3]


def test_the_document_is_made_from_the_declarations() -> None:
    assert (ROOT / "docs" / "settings.md").read_text() == table() + "\n"
    rows = [line for line in table().splitlines() if line.startswith("| `")]
    assert len(rows) == len(DECLARED)
