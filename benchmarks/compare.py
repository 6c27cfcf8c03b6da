"""Compare a run of `benchmarks.engines` with the recorded one, and report slowdowns.

Speeds are compared as ratios to sentence-transformers in the same run, which depend less on the
machine's load than absolute times.
Run: `make bench NAME=compare`, which measures first, or `BENCH_ARGS='--run FILE'` with a run's
JSON. Prints a line for each slowdown beyond the noise, and exits with status 1 if there is one.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

RECORDED = Path(__file__).parent / "recorded.json"
# Smaller relative differences count as noise, even if the times varied less.
MIN_NOISE = 0.1


def slowdowns(recorded: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Describe each engine and shape whose ratio fell by more than the noise of both runs."""
    lines = []
    for shape, rows in recorded["shapes"].items():
        found = {row["way"]: row for row in now["shapes"].get(shape, [])}
        for before in rows:
            after = found.get(before["way"])
            if after is None:
                continue
            noise = max(MIN_NOISE, (before["spread"] + after["spread"]) / 2)
            if after["ratio"] < before["ratio"] * (1 - noise):
                lines.append(
                    f"{shape}, {before['way']}: ratio fell from {before['ratio']} to "
                    f"{after['ratio']} (noise {noise:.0%})"
                )
    return lines


def _measured(options: list[str]) -> Path:
    """Run `benchmarks.engines` with these options; return the JSON file that it wrote."""
    output = Path(".bench.json")
    command = [sys.executable, "-m", "benchmarks.engines", *options, "--output", str(output)]
    subprocess.run(command, check=True)
    return output


def main() -> int:
    """Print the slowdowns; return 1 if there are any."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, help="JSON file written by benchmarks.engines --output")
    options, of_engines = parser.parse_known_args()
    now = json.loads((options.run or _measured(of_engines)).read_text())
    recorded = json.loads(RECORDED.read_text())
    if now["machine"]["offers"] != recorded["machine"]["offers"]:
        features = ", ".join(recorded["machine"]["offers"])
        print(f"note: the recorded run used a CPU with other features: {features}")
    lines = slowdowns(recorded, now)
    print("\n".join(lines) or "no slowdowns")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
