"""Autoscaling by pending tokens: a request may hold one short text or ten thousand long ones.

Ray Serve's controller runs the policy and applies its own bounds and delays.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

METRIC = "pending_tokens"
CHARACTERS_PER_TOKEN = 4
# Rounded up to one replica.
MORE_THAN_ZERO = 0.01


class PendingTokens:
    """Requests as many replicas as leave each with `target_tokens` pending tokens."""

    def __init__(self, target_tokens: int) -> None:
        self._target = target_tokens

    def __call__(self, ctx: Any) -> tuple[float, dict[str, Any]]:
        """Return the number of replicas, and no state; `ctx` is Serve's AutoscalingContext."""
        by_replica = (ctx.aggregated_metrics or {}).get(METRIC, {})
        wanted = sum(by_replica.values()) / self._target
        # Requests that have not reached a replica have no token count yet.
        return max(wanted, MORE_THAN_ZERO if ctx.total_num_requests else 0.0), {}


class Meter:
    """Tokens that a replica has accepted but not scored yet."""

    def __init__(self) -> None:
        self.pending = 0

    @contextmanager
    def holding(self, query: str, documents: Sequence[Any]) -> Iterator[Load]:
        """Count a call while it is processed: estimated from characters until `weigh` is called."""
        load = Load(self)
        texts = sum(len(document) + len(query) for document in documents)
        load.weigh(texts // CHARACTERS_PER_TOKEN)
        try:
            yield load
        finally:
            load.weigh(0)


class Load:
    """The tokens of one call in a meter."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._tokens = 0

    def weigh(self, tokens: int) -> None:
        """Replace the call's token count."""
        self._meter.pending += tokens - self._tokens
        self._tokens = tokens
