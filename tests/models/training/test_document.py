"""docs/training.md: the examples run, and the table of presets matches the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from models.training import PRESETS

DOCUMENT = (Path(__file__).parents[3] / "docs" / "training.md").read_text()


def test_the_examples_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL):
        exec(block, names)
    printed = capsys.readouterr().out
    assert "'reranker_calls':" in printed
    assert " of 27 pairs were asked about" in printed


@pytest.mark.parametrize("name", PRESETS)
def test_the_table_of_presets_matches_the_code(name: str) -> None:
    preset = PRESETS[name]
    values = (
        preset.similarity_threshold,
        preset.top_k_ratio,
        preset.min_top_k,
        preset.max_candidates,
        preset.hybrid_threshold,
        f"{3 * 2048 * preset.max_candidates:,}",
    )
    assert f"| `{name}` | {' | '.join(map(str, values))} |" in DOCUMENT
