"""Usage by API key and model, in bounded counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from serve_app.pricing import Price

# What is counted for each key and model: name to help text.
MODEL_USAGE: Mapping[str, str] = {
    "queries": "Queries ranked",
    "documents": "Documents ranked",
    "tokens": "Tokens of ranked pairs",
    "cached_tokens": "Tokens of pairs answered from the score store",
}
# The key file can change, so the number of names is bounded; further ones count as OTHER_KEYS.
MAX_KEY_NAMES = 2000
OTHER_KEYS = "other"
# Maximum number of (key, model) pairs; further ones are counted under one key.
MAX_PAIRS = 4000

# By API key name, model, and key of `MODEL_USAGE`.
Counts = Counter[tuple[str, str, str]]


def of_key(counts: Counts, key: str, prices: Mapping[str, Price]) -> dict[str, Any]:
    """Return a key's usage by model; `cost` is None if no price is set."""
    models = []
    for name, used in _by_key(counts).get(key, {}).items():
        price = prices.get(name)
        cost = None if price is None else price.of(used["tokens"], used["queries"])
        models.append({"model": name, **used, "cost": cost})
    known = [model["cost"] for model in models if model["cost"] is not None]
    return {"models": models, "cost": sum(known) if prices else None}


def to_json(counts: Counts) -> dict[str, Any]:
    """Return counts by model, and by key and model."""
    total: Counts = Counter()
    for (_, model, what), number in counts.items():
        total["", model, what] += number
    return {
        "usage_by_model": _by_key(total).get("", {}),
        "usage_by_key_and_model": _by_key(counts),
    }


def _by_key(counts: Counts) -> dict[str, dict[str, dict[str, int]]]:
    found: dict[str, dict[str, dict[str, int]]] = {}
    for key, model in sorted({(key, model) for key, model, _ in counts}):
        used = {what: counts[key, model, what] for what in MODEL_USAGE}
        found.setdefault(key, {})[model] = used
    return found
