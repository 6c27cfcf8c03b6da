"""Usage tracking: tokens, requests and cost by tool and model."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from serve_app.client.locks import ForkLock
from serve_app.client.usage_store import FileStore, MemoryStore, Store
from serve_app.pricing import Price

logger = logging.getLogger(__name__)
USAGE_FILE = "RERANK_USAGE_FILE"


@dataclass(frozen=True, slots=True)
class Usage:
    """Counts of one tool and model; `cost` is None if the model has no price."""

    tool: str
    model: str
    tokens: int
    requests: int
    cost: float | None


@dataclass(frozen=True, slots=True)
class UsageSnapshot:
    """The counts at one moment, one row per tool and model."""

    rows: tuple[Usage, ...]

    @property
    def tokens(self) -> int:
        return sum(row.tokens for row in self.rows)

    @property
    def requests(self) -> int:
        return sum(row.requests for row in self.rows)

    @property
    def cost(self) -> float:
        """The total cost of the rows that have a price."""
        return sum(row.cost for row in self.rows if row.cost is not None)

    def __str__(self) -> str:
        lines = [f"{'tool':16} {'model':32} {'tokens':>12} {'requests':>9} {'cost':>10}"]
        for row in self.rows:
            cost = "-" if row.cost is None else f"{row.cost:.4g}"
            lines.append(
                f"{row.tool:16} {row.model:32} {row.tokens:12} {row.requests:9} {cost:>10}"
            )
        return "\n".join(lines)


Callback = Callable[[Usage], None]


class TokenUsageTracker:
    """Counts tokens and requests; thread-safe, and shared between processes if `path` is set.

    `prices` maps models to prices. `callbacks` receive the usage of each record (not the total)
    in the thread that recorded it; exceptions they raise are logged and suppressed.
    """

    def __init__(
        self,
        *,
        prices: Mapping[str, Price] | None = None,
        path: str | Path | None = None,
        callbacks: Iterable[Callback] = (),
    ) -> None:
        self._prices = dict(prices or {})
        self._store: Store = MemoryStore() if path is None else FileStore(Path(path))
        self._callbacks = list(callbacks)
        self._lock = ForkLock()

    def record(self, tool: str, model: str, tokens: int, requests: int = 1) -> Usage:
        """Add to the counts of a tool and model."""
        self._store.add(tool, model, tokens, requests)
        used = self._usage(tool, model, tokens, requests)
        with self._lock:
            callbacks = list(self._callbacks)
        for callback in callbacks:
            try:
                callback(used)
            except Exception:
                logger.exception("usage callback failed")
        return used

    def snapshot(self) -> UsageSnapshot:
        """Return the current counts, sorted by tool, then model."""
        return self._snapshot(self._store.rows())

    def reset(self) -> UsageSnapshot:
        """Set all counts to zero and return the previous ones."""
        return self._snapshot(self._store.clear())

    def set_price(self, model: str, price: Price) -> None:
        """Set a model's price; it applies to usage already counted, too."""
        with self._lock:
            self._prices[model] = price

    def subscribe(self, callback: Callback) -> Callable[[], None]:
        """Call `callback` with the usage of each record; return a function to unsubscribe."""
        with self._lock:
            self._callbacks.append(callback)

        def unsubscribe() -> None:
            with self._lock:
                if callback in self._callbacks:
                    self._callbacks.remove(callback)

        return unsubscribe

    def export_jsonl(self, path: str | Path, *, append: bool = False) -> int:
        """Write the snapshot as JSON lines and return the number of lines."""
        rows = self.snapshot().rows
        text = "".join(json.dumps(asdict(row)) + "\n" for row in rows)
        with Path(path).open("a" if append else "w", encoding="utf-8") as file:
            file.write(text)
        return len(rows)

    def _snapshot(self, rows: Iterable[tuple[str, str, int, int]]) -> UsageSnapshot:
        return UsageSnapshot(tuple(self._usage(*row) for row in sorted(rows)))

    def _usage(self, tool: str, model: str, tokens: int, requests: int) -> Usage:
        with self._lock:
            price = self._prices.get(model)
        return Usage(tool, model, tokens, requests, price.of(tokens, requests) if price else None)


@cache
def shared_tracker() -> TokenUsageTracker:
    """Return the default tracker, shared by all clients in this process.

    If RERANK_USAGE_FILE is set, it is shared by all processes that use the same file.
    """
    return TokenUsageTracker(path=os.environ.get(USAGE_FILE))
