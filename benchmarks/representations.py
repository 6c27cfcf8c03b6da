"""The gain from cached document representations: a query over cached and over new documents.

Run: `make bench NAME=representations`. Prints for each family: milliseconds for new and for
cached documents, the speedup, and the cache's memory per document.
"""

from __future__ import annotations

import argparse
import time

from benchmarks.shapes import texts
from models.registry import load
from models.types import ModelSpec, Scorer

CACHE_BYTES = 2**30
FAMILIES = ("late-interaction", "bi-encoder")


def main() -> None:
    """Print a line for each family, with the times of the fastest run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--documents", type=int, default=100, help="per request (default: %(default)s)"
    )
    parser.add_argument(
        "--turns", type=int, default=5, help="number of runs (default: %(default)s)"
    )
    options = parser.parse_args()
    for family in FAMILIES:
        spec = ModelSpec("m", family=family, backend="auto", representation_cache_bytes=CACHE_BYTES)
        scorer = load(spec)
        scorer.score("warm up", texts(8, seed=-1))
        new, cached = [], []
        for run in range(options.turns):
            documents = texts(options.documents, seed=run)
            new.append(_ms(scorer, f"mountains number {run}", documents))
            cached.append(_ms(scorer, f"rivers number {run}", documents))
        stats = scorer.representation_stats()
        new_ms, cached_ms = min(new), min(cached)  # other load on the machine only adds time
        print(
            f"{family:17} {scorer.info.backend} {scorer.info.dtype}, "
            f"{options.documents} documents: new {new_ms:.1f} ms, cached {cached_ms:.1f} ms, "
            f"{new_ms / cached_ms:.0f} times as fast, "
            f"{stats['bytes'] / stats['entries'] / 1024:.1f} KiB per document",
            flush=True,
        )


def _ms(scorer: Scorer, query: str, documents: list[str]) -> float:
    started = time.perf_counter()
    scorer.score(query, documents)
    return (time.perf_counter() - started) * 1000


if __name__ == "__main__":
    main()
