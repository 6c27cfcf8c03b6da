"""Draw the recorded speed of one model beside the alternatives, as an SVG for the README.

Run: `python -m benchmarks.chart > docs/speed.svg`. Reads `benchmarks/recorded.json`, which
`benchmarks.engines` measured: pairs per second, all in one run on one machine.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

RECORDED = Path(__file__).parent / "recorded.json"
SHAPE = "minilm-l6, log-normal"
TITLE = "MiniLM-L6 cross-encoder: query-document pairs scored per second"
# What is drawn, from top to bottom: the name in the JSON, the label, whether it is this project.
BARS = (
    ("sentence-transformers fp32", "sentence-transformers, fp32", False),
    ("infinity fp32", "Infinity, fp32", False),
    ("infinity bf16", "Infinity, bf16", False),
    ("torch fp32", "rerank-serve, torch fp32", True),
    ("torch bf16", "rerank-serve, torch bf16", True),
    ("openvino bf16", "rerank-serve, OpenVINO bf16", True),
)
WIDTH, LEFT, RIGHT, TOP, STEP, BAR = 760, 210, 110, 46, 30, 20

STYLE = """
text { font: 13px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #1f2328; }
.title { font-size: 15px; font-weight: 600; }
.note { font-size: 12px; fill: #59636e; }
.other { fill: #afb8c1; }
.ours { fill: #1f6feb; }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc; }
  .note { fill: #9198a1; }
  .other { fill: #656c76; }
}
"""


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: its label, pairs per second, and the ratio to sentence-transformers."""

    label: str
    pairs_per_s: float
    ratio: float
    ours: bool


def bars(recorded: dict[str, Any]) -> list[Bar]:
    """The bars of the chart. Raises KeyError if the run lacks one of them."""
    rows = {row["way"]: row for row in recorded["shapes"][SHAPE]}
    return [
        Bar(label, rows[way]["pairs_per_s"], rows[way]["ratio"], ours) for way, label, ours in BARS
    ]


def svg(recorded: dict[str, Any]) -> str:
    """The chart, as a document that follows the reader's light or dark theme."""
    drawn = bars(recorded)
    scale = (WIDTH - LEFT - RIGHT) / max(bar.pairs_per_s for bar in drawn)
    height = TOP + STEP * len(drawn) + 34
    machine = recorded["machine"]
    note = (
        f"{machine['cores']} CPU cores with {machine['offers'][0]}, documents of about 60 words, "
        f"{machine['date']}; higher is better"
    )
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}" role="img" aria-label="{escape(TITLE)}">',
        f"<style>{STYLE}</style>",
        f'<text class="title" x="0" y="20">{escape(TITLE)}</text>',
    ]
    for i, bar in enumerate(drawn):
        y = TOP + STEP * i
        width = max(1.0, bar.pairs_per_s * scale)
        kind = "ours" if bar.ours else "other"
        value = f"{bar.pairs_per_s:.0f}  (×{bar.ratio:.1f})"
        lines += [
            f'<text x="{LEFT - 10}" y="{y + 15}" text-anchor="end">{escape(bar.label)}</text>',
            f'<rect class="{kind}" x="{LEFT}" y="{y}" width="{width:.1f}" height="{BAR}" rx="2"/>',
            f'<text x="{LEFT + width + 8:.1f}" y="{y + 15}">{escape(value)}</text>',
        ]
    lines += [f'<text class="note" x="0" y="{height - 10}">{escape(note)}</text>', "</svg>"]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print the chart of the recorded run."""
    print(svg(json.loads(RECORDED.read_text())), end="")


if __name__ == "__main__":
    main()
