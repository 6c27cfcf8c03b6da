"""Usage by API key and model: bounded counts, and how they are shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from serve_app.pricing import Price

# What is counted for each key and model, and what Prometheus is told of it.
MODEL_USAGE: Mapping[str, str] = {
    "queries": "Ranked queries",
    "documents": "Ranked documents",
    "tokens": "Tokens of ranked pairs",
    "cached_tokens": "Tokens that the score store answered",
}
# Pairs of key and model over this many are counted under one key.
MAX_PAIRS = 4000

# By API key's name, model, and what of `MODEL_USAGE`.
Counts = Counter[tuple[str, str, str]]


def of_key(counts: Counts, key: str, prices: Mapping[str, Price]) -> dict[str, Any]:
    """What a client has used by model; `cost` is None where there is no price."""
    models = []
    for name, used in _by_key(counts).get(key, {}).items():
        price = prices.get(name)
        cost = None if price is None else price.of(used["tokens"], used["queries"])
        models.append({"model": name, **used, "cost": cost})
    known = [model["cost"] for model in models if model["cost"] is not None]
    return {"models": models, "cost": sum(known) if prices else None}


def to_json(counts: Counts) -> dict[str, Any]:
    """Counts by model, and by key and model."""
    total: Counts = Counter()
    for (_, model, what), number in counts.items():
        total["", model, what] += number
    return {
        "usage_by_model": _by_key(total).get("", {}),
        "usage_by_key_and_model": _by_key(counts),
    }


def metrics(counts: Counts) -> Iterator[tuple[str, str, list[tuple[str, str, int]]]]:
    """Prometheus' counters: name, meaning, and each key's, model's and number."""
    pairs = sorted({(key, model) for key, model, _ in counts})
    for what, meaning in MODEL_USAGE.items():
        values = [(key, model, counts[key, model, what]) for key, model in pairs]
        yield f"rerank_usage_{what}_total", f"{meaning}, by API key's name and model.", values


def _by_key(counts: Counts) -> dict[str, dict[str, dict[str, int]]]:
    found: dict[str, dict[str, dict[str, int]]] = {}
    for key, model in sorted({(key, model) for key, model, _ in counts}):
        used = {what: counts[key, model, what] for what in MODEL_USAGE}
        found.setdefault(key, {})[model] = used
    return found
