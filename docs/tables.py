"""Write the parts of docs/ that come from the code. Run: `make docs`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from benchmarks.chart import RECORDED, svg
from models.remote.document import table as providers
from serve_app.settings.document import table as settings
from serve_app.telemetry.metrics import table as metrics

FOLDER = Path(__file__).parent
BEGIN, END = "<!-- made from the code by `make docs` -->", "<!-- end -->"


def placed(page: str, table: str) -> str:
    """Return the page with the table between its two marks."""
    head, _, rest = page.partition(BEGIN)
    return f"{head}{BEGIN}\n{table}\n{END}{rest.partition(END)[2]}"


def _within(name: str, table: Callable[[], str]) -> str:
    return placed((FOLDER / name).read_text(encoding="utf-8"), table())


def pages() -> dict[str, str]:
    """Return, by file name, what each generated page must contain."""
    return {
        "settings.md": settings() + "\n",
        "providers.md": _within("providers.md", providers),
        "observability.md": _within("observability.md", metrics),
        "speed.svg": svg(json.loads(RECORDED.read_text())),
    }


if __name__ == "__main__":
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
