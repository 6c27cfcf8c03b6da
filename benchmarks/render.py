"""How long each dialect takes to render a response of 1,000 documents.

Run: `make bench NAME=render`. Prints for each dialect the milliseconds without and with the
documents' texts.
"""

from __future__ import annotations

import time

from serve_app.api.dialects import ROUTES, Dialect, ManyDialect
from serve_app.types import RankedDocument, RerankRequest, RerankResult

DOCUMENTS = 1000
ROUNDS = 50


def best_ms(dialect: Dialect, *, documents: bool) -> float:
    texts = tuple(f"document {i} " + "word " * 50 for i in range(DOCUMENTS))
    request = RerankRequest("query", texts, return_documents=documents)
    ranked = tuple(RankedDocument(i, 1 / (i + 1), -float(i), t) for i, t in enumerate(texts))
    result = RerankResult("id", "model", ranked, tokens=60_000)
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        dialect.render(result, request)
        times.append(time.perf_counter() - started)
    return min(times) * 1000


def main() -> None:
    print(f"{DOCUMENTS} documents, best of {ROUNDS} runs: ms without texts, ms with texts")
    dialects = {d.name: d for rule in ROUTES.values() for d in rule.dialects}
    for name, dialect in dialects.items():
        if not isinstance(dialect, ManyDialect):
            bare, full = (best_ms(dialect, documents=flag) for flag in (False, True))
            print(f"{name:10} {bare:6.3f} {full:6.3f}")


if __name__ == "__main__":
    main()
