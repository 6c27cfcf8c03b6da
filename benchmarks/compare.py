"""What became slower than the recorded run of `benchmarks.engines`, by more than the noise.

Ratios to sentence-transformers are compared, not times, so that another load of the machine does
not count. Run: `make bench-compare`, which measures first.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

RECORDED = Path(__file__).parent / "recorded.json"
# Differences under this share are noise whatever the spread of the times says.
LEAST = 0.1


def slower(recorded: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """A line for each way of each shape whose ratio fell by more than both runs' spread."""
    lines = []
    for shape, rows in recorded["shapes"].items():
        found = {row["way"]: row for row in now["shapes"].get(shape, [])}
        for before in rows:
            after = found.get(before["way"])
            if after is None:
                continue
            noise = max(LEAST, (before["spread"] + after["spread"]) / 2)
            if after["ratio"] < before["ratio"] * (1 - noise):
                lines.append(
                    f"{shape}, {before['way']}: x{after['ratio']} was x{before['ratio']} "
                    f"(noise {noise:.0%})"
                )
    return lines


def main() -> int:
    """Print what became slower; the exit status is 1 where something did."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="JSON that benchmarks.engines --output wrote")
    now = json.loads(parser.parse_args().run.read_text())
    recorded = json.loads(RECORDED.read_text())
    if now["machine"]["offers"] != recorded["machine"]["offers"]:
        print("note: recorded on a processor that offers", ", ".join(recorded["machine"]["offers"]))
    lines = slower(recorded, now)
    print("\n".join(lines) or "nothing became slower")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
