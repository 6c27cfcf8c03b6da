"""What one ingress process counts while it serves requests."""

from __future__ import annotations

from collections.abc import Mapping

from serve_app.telemetry.histogram import Histogram
from serve_app.telemetry.snapshot import Snapshot, merge
from serve_app.telemetry.usage import MAX_KEY_NAMES, MAX_PAIRS, OTHER_KEYS


class Telemetry:
    """The counts of one process."""

    def __init__(self) -> None:
        self._own = Snapshot()
        self._key_names: set[str] = set()
        self._key_models: set[tuple[str, str]] = set()

    def record_http(self, dialect: str, status: int) -> None:
        self._own.http[dialect, status] += 1

    def record_request(
        self, dialect: str, model: str, status: int, wait_s: float, process_s: float
    ) -> None:
        """Count a rerank request, by HTTP or by handle; times in seconds."""
        self._own.requests[dialect, model, status] += 1
        self._own.wait.setdefault(model, Histogram()).add(wait_s)
        self._own.process.setdefault(model, Histogram()).add(process_s)

    def record_pairs(self, model: str, **amounts: int) -> None:
        """Count a request's pairs; amounts are named as in `metrics.PAIRS`, or (shared_)hits."""
        for what, amount in amounts.items():
            self._own.pairs[model, what] += amount

    def record_usage(self, key: str, **amounts: int) -> None:
        """Add to the usage of the API key of that name; amounts are named as in `USAGE`."""
        if key not in self._key_names:
            if len(self._key_names) >= MAX_KEY_NAMES:
                key = OTHER_KEYS
            self._key_names.add(key)
        for what, amount in amounts.items():
            self._own.usage[key, what] += amount

    def record_model_usage(self, key: str, model: str, **amounts: int) -> None:
        """Add to a key's usage of one model; amounts are named as in `MODEL_USAGE`."""
        if (key, model) not in self._key_models:
            if len(self._key_models) >= MAX_PAIRS:
                key = OTHER_KEYS
            self._key_models.add((key, model))
        for what, amount in amounts.items():
            self._own.usage_by_model[key, model, what] += amount

    def record_fallback(self, model: str) -> None:
        """Count a request that another model answered in place of `model`."""
        self.record_model_event(model, "fallbacks")

    def record_retry(self, model: str) -> None:
        """Count a retried call to the model's replicas."""
        self.record_model_event(model, "retries")

    def record_model_event(self, model: str, event: str) -> None:
        """Count an event in calls to the model."""
        self._own.model_events[model, event] += 1

    def snapshot(
        self, *, waiting: int = 0, active: int = 0, shared: Mapping[str, int] | None = None
    ) -> Snapshot:
        """Return a copy of the totals, with the current queue and shared store."""
        copy = merge([self._own])
        copy.waiting, copy.active = waiting, active
        copy.shared.update(shared or {})
        return copy
