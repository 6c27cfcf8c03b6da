"""What is told of the store that servers share, and of kept document representations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

# What is counted of the store that servers share, and what Prometheus is told of it.
SHARED: Mapping[str, str] = {
    "hits": "Pairs that the shared store had",
    "misses": "Pairs that it did not have, or not in time",
    "skipped": "Pairs that it was not asked for, its breaker being open",
    "awaited": "Pairs that another server was scoring and that were waited for",
    "unreadable": "Values that were no score",
    "timeouts": "Calls without an answer in time",
    "errors": "Calls that failed",
    "refused": "Calls that the store refused (full, read-only, no permission)",
    "written": "Pairs written",
    "dropped": "Pairs that were not written (queue full, breaker open, write failed)",
}
SHARED_NOW: Mapping[str, str] = {
    "queued": "Pairs that wait to be written",
    "breaker_open": "Ingress processes that do not ask the shared store for now",
    "write_breaker_open": "Ingress processes that do not write to it for now",
}
# What is counted of kept document representations, by model.
REPRESENTATIONS: Mapping[str, str] = {
    "hits": "Documents whose representation was kept",
    "misses": "Documents that were run",
    "saved_tokens": "Document tokens that were counted and not run",
    "evictions": "Representations given up for others",
}
REPRESENTATIONS_NOW: Mapping[str, str] = {
    "entries": "Representations kept",
    "bytes": "Bytes that kept representations take",
}


@dataclass(frozen=True, slots=True)
class Metric:
    """One of Prometheus' metrics; each value with the model that it belongs to, if any."""

    name: str
    kind: Literal["counter", "gauge"]
    text: str
    values: Sequence[tuple[str | None, int]]
    by_model: bool = False


def metrics(shared: Counter[str], representations: Counter[tuple[str, str]]) -> Iterator[Metric]:
    """Counters and gauges of both, in the tables' order."""
    for what in (*SHARED, *SHARED_NOW):
        kind, end, text = _shown(what, SHARED, SHARED_NOW)
        yield Metric(f"rerank_redis_{what}{end}", kind, text, [(None, shared[what])])
    for what in (*REPRESENTATIONS, *REPRESENTATIONS_NOW):
        kind, end, text = _shown(what, REPRESENTATIONS, REPRESENTATIONS_NOW)
        values = [(model, representations[model, what]) for model in _models(representations)]
        yield Metric(f"rerank_representations_{what}{end}", kind, text, values, by_model=True)


def _shown(
    what: str, counted: Mapping[str, str], now: Mapping[str, str]
) -> tuple[Literal["counter", "gauge"], str, str]:
    """A metric's kind, the end of its name, and its text."""
    if what in counted:
        return "counter", "_total", f"{counted[what]}."
    return "gauge", "", f"{now[what]}."


def shared_json(shared: Counter[str]) -> dict[str, int]:
    return {what: shared[what] for what in (*SHARED, *SHARED_NOW)}


def representations_json(representations: Counter[tuple[str, str]]) -> dict[str, dict[str, int]]:
    """By model."""
    return {
        model: {
            what: representations[model, what] for what in (*REPRESENTATIONS, *REPRESENTATIONS_NOW)
        }
        for model in _models(representations)
    }


def _models(representations: Counter[tuple[str, str]]) -> list[str]:
    return sorted({model for model, _ in representations})
