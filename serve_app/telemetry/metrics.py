"""Every metric, once: its name, kind, labels, and where its values are in a snapshot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from models.engine_stats import BUCKETS, COUNTS, ROWS, SECONDS, Distribution
from serve_app.telemetry import store_metrics, usage
from serve_app.telemetry.snapshot import USAGE, Snapshot, key_names

Kind = Literal["counter", "gauge", "histogram"]
Labels = tuple[str, ...]

# What becomes of a request's pairs, by model.
PAIRS: Mapping[str, tuple[str, str]] = {
    "documents": ("rerank_documents_total", "Ranked documents"),
    "tokens": ("rerank_tokens_total", "Tokens of ranked pairs"),
    "cached_tokens": ("rerank_cached_tokens_total", "Tokens that a store answered"),
    "misses": ("rerank_cache_misses_total", "Pairs that no store had"),
    "deduplicated": ("rerank_pairs_deduplicated_total", "Pairs scored once for several uses"),
}
# What a replica measures of its calls and batches, beside what its engine does.
REPLICA_BUCKETS: Mapping[str, tuple[float, ...]] = {
    "encode_seconds": SECONDS,
    "queue_seconds": SECONDS,
    "batch_calls": ROWS,
    "upstream_seconds": SECONDS,
}
DISTRIBUTIONS: Mapping[str, tuple[str, str]] = {
    "encode_seconds": ("rerank_replica_encode_seconds", "Tokenising one call's chunk"),
    "queue_seconds": (
        "rerank_replica_queue_seconds",
        "From tokenised to the start of the merged batch's forward pass, of one call",
    ),
    "batch_calls": ("rerank_replica_batch_calls", "Calls that were merged into one batch"),
    "forward_seconds": ("rerank_engine_forward_seconds", "Forward pass of one micro-batch"),
    "batch_rows": ("rerank_engine_batch_rows", "Rows in one micro-batch"),
    "batch_tokens": ("rerank_engine_batch_tokens", "Tokens in one micro-batch, padding aside"),
    "upstream_seconds": ("rerank_upstream_seconds", "A provider's answer to one call, retries in"),
}
ALL_BUCKETS: Mapping[str, tuple[float, ...]] = {**BUCKETS, **REPLICA_BUCKETS}


@dataclass(frozen=True, slots=True)
class Family:
    """One metric with its values by the labels' values."""

    name: str
    kind: Kind
    text: str
    labels: Labels = ()
    # By Labels, which as a mapping's key mypy does not let be a tuple of known length.
    numbers: Mapping[Any, float] = field(default_factory=dict)
    distributions: Mapping[Any, Distribution] = field(default_factory=dict)


def families(snapshot: Snapshot) -> Iterator[Family]:
    """All metrics, those without a value among them, in the order in which they are shown."""
    yield from _requests(snapshot)
    yield from _pairs(snapshot)
    yield from _stores(snapshot)
    yield from _replicas(snapshot)
    for what, meaning in USAGE.items():
        numbers = {(name,): snapshot.usage[name, what] for name in key_names(snapshot)}
        text = f"{meaning}, by API key's name."
        yield Family(f"rerank_key_{what}_total", "counter", text, ("key",), numbers)
    for name, text, values in usage.metrics(snapshot.usage_by_model):
        by_model = {(key, model): number for key, model, number in values}
        yield Family(name, "counter", text, ("key", "model"), by_model)


def _requests(snapshot: Snapshot) -> Iterator[Family]:
    yield Family(
        "rerank_requests_total",
        "counter",
        "Rerank requests; `handle` is the dialect of calls by handle.",
        ("dialect", "model", "status"),
        {(d, m, str(status)): n for (d, m, status), n in sorted(snapshot.requests.items())},
    )
    yield Family(
        "rerank_http_responses_total",
        "counter",
        "Answers by dialect and status.",
        ("dialect", "status"),
        {(dialect, str(status)): n for (dialect, status), n in sorted(snapshot.http.items())},
    )
    for name, text, histograms in (
        ("rerank_process_seconds", "A request's time in the service.", snapshot.process),
        ("rerank_queue_wait_seconds", "A request's time in the queue.", snapshot.wait),
    ):
        shown = {(model,): histogram.shown for model, histogram in sorted(histograms.items())}
        yield Family(name, "histogram", text, ("model",), distributions=shown)
    for name, text, value in (
        ("rerank_requests_waiting", "Requests in the queue.", snapshot.waiting),
        ("rerank_requests_active", "Requests being scored.", snapshot.active),
    ):
        yield Family(name, "gauge", text, numbers={(): value})


def _pairs(snapshot: Snapshot) -> Iterator[Family]:
    models = sorted({model for model, _ in snapshot.pairs})
    for what, (name, text) in PAIRS.items():
        numbers = {(model,): snapshot.pairs[model, what] for model in models}
        yield Family(name, "counter", f"{text}.", ("model",), numbers)
    hits = {}
    for model in models:
        shared = snapshot.pairs[model, "shared_hits"]
        hits[model, "memory"] = snapshot.pairs[model, "hits"] - shared
        hits[model, "redis"] = shared
    text = "Pairs that a store had, by tier."
    yield Family("rerank_cache_hits_total", "counter", text, ("model", "tier"), hits)


def _stores(snapshot: Snapshot) -> Iterator[Family]:
    for metric in store_metrics.metrics(snapshot.shared, snapshot.representations):
        labels = ("model",) if metric.by_model else ()
        numbers = {() if owner is None else (owner,): n for owner, n in metric.values}
        yield Family(metric.name, metric.kind, metric.text, labels, numbers)


def _replicas(snapshot: Snapshot) -> Iterator[Family]:
    yield Family(
        "rerank_replicas",
        "gauge",
        "Replicas of the model that report.",
        ("model",),
        {(model,): n for model, n in sorted(snapshot.replicas.items())},
    )
    models = sorted({model for model, _ in snapshot.engine})
    for what, text in COUNTS.items():
        numbers = {(model,): snapshot.engine[model, what] for model in models}
        yield Family(f"rerank_engine_{what}_total", "counter", f"{text}.", ("model",), numbers)
    for what, (name, text) in DISTRIBUTIONS.items():
        found = {
            (model,): one
            for (model, of), one in sorted(snapshot.distributions.items())
            if of == what
        }
        yield Family(name, "histogram", f"{text}.", ("model",), distributions=found)
    yield Family(
        "rerank_upstream_total",
        "counter",
        "Events in calls to models, by model.",
        ("model", "event"),
        dict(sorted(snapshot.upstream.items())),
    )


def table() -> str:
    """The metrics as rows of a Markdown table, as docs/observability.md has them."""
    rows = ["| metric | kind | labels | what it is |", "|---|---|---|---|"]
    for one in families(Snapshot()):
        labels = ", ".join(f"`{label}`" for label in one.labels)
        rows.append(f"| `{one.name}` | {one.kind} | {labels} | {one.text} |")
    return "\n".join(rows)
