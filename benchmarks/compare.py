"""Regressions against the recorded run of `engines`, beyond the noise.

Ratios to sentence-transformers are compared rather than times, so the machine's load does not
matter. Without `--run`, `engines` is measured first, with the flags given. Run:
`make bench NAME=compare`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
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


def _measured(options: list[str]) -> Path:
    """The file with a new run of `benchmarks.engines`, which takes these options."""
    output = Path(".bench.json")
    command = [sys.executable, "-m", "benchmarks.engines", *options, "--output", str(output)]
    subprocess.run(command, check=True)
    return output


def main() -> int:
    """Print what became slower; the exit status is 1 where something did."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, help="JSON that benchmarks.engines wrote")
    options, of_engines = parser.parse_known_args()
    now = json.loads((options.run or _measured(of_engines)).read_text())
    recorded = json.loads(RECORDED.read_text())
    if now["machine"]["offers"] != recorded["machine"]["offers"]:
        print("note: recorded on a processor that offers", ", ".join(recorded["machine"]["offers"]))
    lines = slower(recorded, now)
    print("\n".join(lines) or "nothing became slower")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
