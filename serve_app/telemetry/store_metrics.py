"""What is counted about the shared score store and the cache of document representations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

# Counters of the shared score store: name to help text.
SHARED: Mapping[str, str] = {
    "hits": "Pairs found in the shared score store",
    "misses": "Pairs not found in the shared score store, or not in time",
    "skipped": "Pairs not looked up because the circuit breaker was open",
    "awaited": "Pairs waited for while another server was scoring them",
    "unreadable": "Stored values that are not valid scores",
    "timeouts": "Calls to the shared score store that timed out",
    "errors": "Calls to the shared score store that failed",
    "refused": "Calls that the shared score store rejected (full, read-only, no permission)",
    "written": "Pairs written to the shared score store",
    "dropped": "Pairs not written (queue full, circuit breaker open, write failed)",
}
# Its gauges.
SHARED_NOW: Mapping[str, str] = {
    "queued": "Pairs waiting to be written to the shared score store",
    "breaker_open": "Ingress processes currently skipping lookups in the shared score store",
    "write_breaker_open": "Ingress processes currently skipping writes to the shared score store",
}
# Counters of the representation cache, by model.
REPRESENTATIONS: Mapping[str, str] = {
    "hits": "Document representations found in the cache",
    "misses": "Document representations computed by the model",
    "saved_tokens": "Document tokens not run through the model because of cache hits",
    "evictions": "Document representations evicted from the cache",
}
# Its gauges.
REPRESENTATIONS_NOW: Mapping[str, str] = {
    "entries": "Document representations in the cache",
    "bytes": "Bytes used by cached document representations",
}


def shared_json(shared: Counter[str]) -> dict[str, int]:
    return {what: shared[what] for what in (*SHARED, *SHARED_NOW)}


def representations_json(representations: Counter[tuple[str, str]]) -> dict[str, dict[str, int]]:
    """Counters and gauges by model."""
    return {
        model: {
            what: representations[model, what] for what in (*REPRESENTATIONS, *REPRESENTATIONS_NOW)
        }
        for model in models_of(representations)
    }


def models_of(representations: Counter[tuple[str, str]]) -> list[str]:
    return sorted({model for model, _ in representations})
