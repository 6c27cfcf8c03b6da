"""The table of metrics: each one's name, kind, labels and help text, and its values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from models.engine_stats import BUCKETS, COUNTS, ROWS, SECONDS, Distribution
from serve_app.telemetry.snapshot import USAGE, Snapshot, key_names
from serve_app.telemetry.store_metrics import (
    REPRESENTATIONS,
    REPRESENTATIONS_NOW,
    SHARED,
    SHARED_NOW,
    models_of,
)
from serve_app.telemetry.usage import MODEL_USAGE

Kind = Literal["counter", "gauge", "histogram"]
Labels = tuple[str, ...]

# Counters of a request's pairs, by model.
PAIRS: Mapping[str, tuple[str, str]] = {
    "documents": ("rerank_documents_total", "Documents ranked"),
    "tokens": ("rerank_tokens_total", "Tokens of ranked pairs"),
    "cached_tokens": (
        "rerank_cached_tokens_total",
        "Tokens of pairs answered from the score store",
    ),
    "misses": ("rerank_cache_misses_total", "Pairs not found in the score store"),
    "deduplicated": (
        "rerank_pairs_deduplicated_total",
        "Pairs that shared the scoring of an identical pair",
    ),
}
# Measured by a replica for its calls and batches, in addition to its engine's measurements.
REPLICA_BUCKETS: Mapping[str, tuple[float, ...]] = {
    "encode_seconds": SECONDS,
    "queue_seconds": SECONDS,
    "batch_calls": ROWS,
    "upstream_seconds": SECONDS,
}
DISTRIBUTIONS: Mapping[str, tuple[str, str]] = {
    "encode_seconds": ("rerank_replica_encode_seconds", "Time to tokenise the chunk of one call"),
    "queue_seconds": (
        "rerank_replica_queue_seconds",
        "Time a tokenised call waits until the forward pass of its merged batch starts",
    ),
    "batch_calls": ("rerank_replica_batch_calls", "Calls per merged batch"),
    "forward_seconds": (
        "rerank_engine_forward_seconds",
        "Duration of the forward pass of one micro-batch",
    ),
    "batch_rows": ("rerank_engine_batch_rows", "Rows per micro-batch"),
    "batch_tokens": ("rerank_engine_batch_tokens", "Tokens per micro-batch, excluding padding"),
    "upstream_seconds": (
        "rerank_upstream_seconds",
        "Duration of one call to a provider, including retries",
    ),
}
ALL_BUCKETS: Mapping[str, tuple[float, ...]] = {**BUCKETS, **REPLICA_BUCKETS}


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric, with its values by label values."""

    name: str
    kind: Kind
    text: str
    labels: Labels = ()
    # Keys are Labels; mypy does not accept tuples of fixed length for them.
    numbers: Mapping[Any, float] = field(default_factory=dict)
    distributions: Mapping[Any, Distribution] = field(default_factory=dict)


def all_metrics(snapshot: Snapshot) -> Iterator[Metric]:
    """Yield every metric, including those without values, in the order of the documentation."""
    yield from _requests(snapshot)
    yield from _pairs(snapshot)
    yield from _stores(snapshot)
    yield from _replicas(snapshot)
    yield from _usage(snapshot)


def _requests(snapshot: Snapshot) -> Iterator[Metric]:
    yield Metric(
        "rerank_requests_total",
        "counter",
        "Rerank requests; calls by Ray handle have the dialect `handle`.",
        ("dialect", "model", "status"),
        {(d, m, str(status)): n for (d, m, status), n in sorted(snapshot.requests.items())},
    )
    yield Metric(
        "rerank_http_responses_total",
        "counter",
        "HTTP responses by dialect and status.",
        ("dialect", "status"),
        {(dialect, str(status)): n for (dialect, status), n in sorted(snapshot.http.items())},
    )
    for name, text, histograms in (
        ("rerank_process_seconds", "Time a request spends in the service.", snapshot.process),
        ("rerank_queue_wait_seconds", "Time a request waits in the queue.", snapshot.wait),
    ):
        shown = {(model,): histogram.shown for model, histogram in sorted(histograms.items())}
        yield Metric(name, "histogram", text, ("model",), distributions=shown)
    for name, text, value in (
        ("rerank_requests_waiting", "Requests waiting in the queue.", snapshot.waiting),
        ("rerank_requests_active", "Requests being scored.", snapshot.active),
    ):
        yield Metric(name, "gauge", text, numbers={(): value})


def _pairs(snapshot: Snapshot) -> Iterator[Metric]:
    models = sorted({model for model, _ in snapshot.pairs})
    for what, (name, text) in PAIRS.items():
        numbers = {(model,): snapshot.pairs[model, what] for model in models}
        yield Metric(name, "counter", f"{text}.", ("model",), numbers)
    hits = {}
    for model in models:
        shared = snapshot.pairs[model, "shared_hits"]
        hits[model, "memory"] = snapshot.pairs[model, "hits"] - shared
        hits[model, "redis"] = shared
    text = "Pairs found in the score store, by tier: `memory` or `redis`."
    yield Metric("rerank_cache_hits_total", "counter", text, ("model", "tier"), hits)


def _stores(snapshot: Snapshot) -> Iterator[Metric]:
    for what, text in {**SHARED, **SHARED_NOW}.items():
        kind, suffix = _kind_and_suffix(what in SHARED)
        numbers = {(): snapshot.shared[what]}
        yield Metric(f"rerank_redis_{what}{suffix}", kind, f"{text}.", numbers=numbers)
    models = models_of(snapshot.representations)
    for what, text in {**REPRESENTATIONS, **REPRESENTATIONS_NOW}.items():
        kind, suffix = _kind_and_suffix(what in REPRESENTATIONS)
        by_model = {(model,): snapshot.representations[model, what] for model in models}
        name = f"rerank_representations_{what}{suffix}"
        yield Metric(name, kind, f"{text}.", ("model",), by_model)


def _kind_and_suffix(is_counter: bool) -> tuple[Kind, str]:
    return ("counter", "_total") if is_counter else ("gauge", "")


def _replicas(snapshot: Snapshot) -> Iterator[Metric]:
    yield Metric(
        "rerank_replicas",
        "gauge",
        "Replicas of the model that report metrics.",
        ("model",),
        {(model,): n for model, n in sorted(snapshot.replicas.items())},
    )
    models = sorted({model for model, _ in snapshot.engine})
    for what, text in COUNTS.items():
        numbers = {(model,): snapshot.engine[model, what] for model in models}
        yield Metric(f"rerank_engine_{what}_total", "counter", f"{text}.", ("model",), numbers)
    for what, (name, text) in DISTRIBUTIONS.items():
        found = {
            (model,): distribution
            for (model, measured), distribution in sorted(snapshot.distributions.items())
            if measured == what
        }
        yield Metric(name, "histogram", f"{text}.", ("model",), distributions=found)
    yield Metric(
        "rerank_upstream_total",
        "counter",
        "Events in calls to models, such as retries and fallbacks.",
        ("model", "event"),
        dict(sorted(snapshot.model_events.items())),
    )


def _usage(snapshot: Snapshot) -> Iterator[Metric]:
    for what, text in USAGE.items():
        by_key = {(key,): snapshot.usage[key, what] for key in key_names(snapshot)}
        yield Metric(
            f"rerank_key_{what}_total", "counter", f"{text}, by API key name.", ("key",), by_key
        )
    counts = snapshot.usage_by_model
    pairs = sorted({(key, model) for key, model, _ in counts})
    for what, text in MODEL_USAGE.items():
        yield Metric(
            f"rerank_usage_{what}_total",
            "counter",
            f"{text}, by API key name and model.",
            ("key", "model"),
            {(key, model): counts[key, model, what] for key, model in pairs},
        )


def table() -> str:
    """The metrics as a Markdown table, for docs/observability.md."""
    rows = ["| metric | kind | labels | what it is |", "|---|---|---|---|"]
    for metric in all_metrics(Snapshot()):
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        rows.append(f"| `{metric.name}` | {metric.kind} | {labels} | {metric.text} |")
    return "\n".join(rows)
