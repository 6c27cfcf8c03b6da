"""`benchmarks.compare`, which reports slowdowns of the engines."""

from __future__ import annotations

import json
from typing import Any

import pytest

from benchmarks.compare import RECORDED, slowdowns


def _run(ratio: float, spread: float = 0.02) -> dict[str, Any]:
    return {"shapes": {"bert": [{"way": "torch bf16", "ratio": ratio, "spread": spread}]}}


@pytest.mark.parametrize(
    ("before", "after", "spread", "found"),
    [
        (3.0, 3.0, 0.02, 0),
        (3.0, 2.8, 0.02, 0),
        (3.0, 2.5, 0.02, 1),
        (3.0, 2.5, 0.4, 0),
        (2, 3, 0, 0),
    ],
)
def test_only_slowdowns_beyond_the_noise_are_reported(
    before: float, after: float, spread: float, found: int
) -> None:
    lines = slowdowns(_run(before, spread), _run(after, spread))
    assert len(lines) == found
    assert all("bert, torch bf16: ratio fell from" in line for line in lines)


def test_shapes_and_engines_that_were_not_run_are_ignored() -> None:
    assert slowdowns(_run(3.0), {"shapes": {}}) == []


def test_the_recorded_run_is_not_slower_than_itself() -> None:
    recorded = json.loads(RECORDED.read_text())
    assert slowdowns(recorded, recorded) == []
    shapes = {name.partition(",")[0] for name in recorded["shapes"]}
    assert shapes == {"minilm-l6", "bert-base"}
