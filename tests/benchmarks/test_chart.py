"""The README's chart of measured speed."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.chart import RECORDED, SHAPE, bars, svg

ROOT = Path(__file__).parents[2]


def test_the_readmes_chart_shows_the_recorded_run() -> None:
    assert (ROOT / "docs" / "speed.svg").read_text() == svg(json.loads(RECORDED.read_text()))


def test_bar_lengths_are_proportional_to_pairs_per_second() -> None:
    recorded = json.loads(RECORDED.read_text())
    root = ElementTree.fromstring(svg(recorded))
    widths = [float(rect.attrib["width"]) for rect in root.iterfind(".//{*}rect")]
    speeds = [bar.pairs_per_s for bar in bars(recorded)]
    assert [w / widths[0] for w in widths] == pytest.approx(
        [s / speeds[0] for s in speeds], rel=0.01
    )


def test_a_run_that_lacks_an_engine_is_not_drawn() -> None:
    recorded = json.loads(RECORDED.read_text())
    recorded["shapes"][SHAPE].pop()
    recorded["shapes"][SHAPE].pop(0)
    with pytest.raises(KeyError, match="sentence-transformers"):
        svg(recorded)
