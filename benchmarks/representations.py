"""A new query over documents whose representations are cached, and over new documents.

Run: `make bench NAME=representations`.
"""

from __future__ import annotations

import argparse
import time

from benchmarks.shapes import texts
from models.registry import load
from models.types import ModelSpec, Scorer

ROOM_BYTES = 2**30
FAMILIES = ("late-interaction", "bi-encoder")


def main() -> None:
    """A line for each family: the fastest turn's milliseconds, their ratio, and what was kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=100)
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    for family in FAMILIES:
        spec = ModelSpec("m", family=family, backend="auto", representation_cache_bytes=ROOM_BYTES)
        scorer = load(spec)
        scorer.score("warm up", texts(8, seed=-1))
        new, known = [], []
        for turn in range(options.turns):
            documents = texts(options.documents, seed=turn)
            new.append(_ms(scorer, f"mountains number {turn}", documents))
            known.append(_ms(scorer, f"rivers number {turn}", documents))
        kept = scorer.stats()
        first, then = min(new), min(known)  # what else the machine does only adds
        print(
            f"{family:17} {scorer.info.backend} {scorer.info.dtype}, "
            f"{options.documents} documents: new {first:.1f} ms, known {then:.1f} ms, "
            f"{first / then:.0f} times as fast, "
            f"{kept['bytes'] / kept['entries'] / 1024:.1f} KiB a document",
            flush=True,
        )


def _ms(scorer: Scorer, query: str, documents: list[str]) -> float:
    started = time.perf_counter()
    scorer.score(query, documents)
    return (time.perf_counter() - started) * 1000


if __name__ == "__main__":
    main()
