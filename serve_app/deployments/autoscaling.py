"""Replicas by the tokens that wait, since a request may be one short text or ten thousand long.

Ray Serve's controller runs the policy and applies bounds and delays around it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

METRIC = "pending_tokens"
CHARACTERS_PER_TOKEN = 4
# Less than one replica's worth and more than nothing: rounded up, it is one.
A_LITTLE = 0.01


class PendingTokens:
    """So many replicas that each has `target_tokens` tokens before it."""

    def __init__(self, target_tokens: int) -> None:
        self._target = target_tokens

    def __call__(self, ctx: Any) -> tuple[float, dict[str, Any]]:
        """The number wanted, and no state; `ctx` is Ray Serve's AutoscalingContext."""
        by_replica = (ctx.aggregated_metrics or {}).get(METRIC, {})
        wanted = sum(by_replica.values()) / self._target
        # Requests that no replica has seen yet carry no tokens, but are there.
        return max(wanted, A_LITTLE if ctx.total_num_requests else 0.0), {}


class Meter:
    """Tokens that a replica has accepted and not scored."""

    def __init__(self) -> None:
        self.pending = 0

    @contextmanager
    def holding(self, query: str, documents: Sequence[Any]) -> Iterator[Load]:
        """Count a call while it is worked on: by its characters, until its tokens are known."""
        load = Load(self)
        texts = sum(len(document) + len(query) for document in documents)
        load.weigh(texts // CHARACTERS_PER_TOKEN)
        try:
            yield load
        finally:
            load.weigh(0)


class Load:
    """One call's part of a meter."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._tokens = 0

    def weigh(self, tokens: int) -> None:
        """Replace what the call counted so far."""
        self._meter.pending += tokens - self._tokens
        self._tokens = tokens
