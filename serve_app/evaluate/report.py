"""The results, and their output as JSON, Markdown or a terminal table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from serve_app.evaluate.dataset import Ranked, count
from serve_app.evaluate.rankers import Cost
from serve_app.evaluate.significance import RESAMPLES, Comparison, Test

TESTS = {
    "randomization": f"paired randomization test, {RESAMPLES:,} resamples",
    "t-test": "paired t-test",
}


@dataclass(frozen=True, slots=True)
class System:
    """One row of the results: a ranker's run, its cost and its quality.

    `values` and `intervals` are by metric: one value per query, and the mean's 95% interval.
    """

    name: str
    run: Mapping[str, Ranked]
    cost: Cost
    values: Mapping[str, Sequence[float]]
    intervals: Mapping[str, tuple[float, float]]

    def mean(self, measure: str) -> float:
        values = self.values[measure]
        return sum(values) / len(values)


@dataclass(frozen=True, slots=True)
class Report:
    """All results; the first of `measures` is shown with intervals and comparisons.

    `failures` maps the name of a ranker without a row to the reason.
    """

    dataset: str
    queries: int
    documents: int | None
    depth: int
    seed: int
    test: Test
    measures: tuple[str, ...]
    systems: tuple[System, ...]
    comparisons: tuple[Comparison, ...]
    notes: tuple[str, ...] = ()
    failures: Mapping[str, str] | None = None

    @property
    def title(self) -> str:
        parts = [count(self.queries, "query")]
        if self.documents is not None:
            parts.append(count(self.documents, "document"))
        if self.depth:
            parts.append(f"up to {count(self.depth, 'candidate')} each")
        return f"{self.dataset}: {', '.join(parts)}"

    @property
    def shown(self) -> list[Comparison]:
        """The comparisons by the first metric."""
        return [c for c in self.comparisons if c.measure == self.measures[0]]

    @property
    def method(self) -> str:
        """An explanation of the comparisons' columns."""
        return (
            f"{self.measures[0]} minus that of {self.shown[0].baseline}: mean difference, 95% "
            f"bootstrap interval, p ({TESTS[self.test]}), p after Holm's correction, queries "
            "won/tied/lost"
        )


def as_json(report: Report) -> str:
    """Return means, intervals, costs and all comparisons as JSON, without values per query."""
    body: dict[str, Any] = {
        "dataset": report.dataset,
        "queries": report.queries,
        "documents": report.documents,
        "candidates": report.depth,
        "seed": report.seed,
        "measures": list(report.measures),
        "rows": [_row(system) for system in report.systems],
        "test": {
            "name": report.test,
            "interval": "percentile bootstrap, 95%",
            "correction": "Holm",
        },
        "comparisons": [asdict(comparison) for comparison in report.comparisons],
        "notes": list(report.notes),
        "failures": dict(report.failures or {}),
    }
    return json.dumps(body, indent=2, ensure_ascii=False)


def _row(system: System) -> dict[str, Any]:
    cost = system.cost
    return {
        "name": system.name,
        "measures": {
            measure: {"mean": system.mean(measure), "low": low, "high": high}
            for measure, (low, high) in system.intervals.items()
        },
        "ms_per_query": cost.ms_per_query,
        "latency_ms": dict(zip(("p50", "p95"), cost.latency_ms, strict=True))
        if cost.latency_ms
        else None,
        "pairs": cost.pairs,
        "tokens": cost.tokens,
    }


def _quality(report: Report) -> dict[str, list[str]]:
    first, *others = report.measures
    return {
        system.name: [
            f"{system.mean(first):.3f}",
            "{:.3f} to {:.3f}".format(*system.intervals[first]),
            *(f"{system.mean(measure):.3f}" for measure in others),
        ]
        for system in report.systems
    }


def _costs(report: Report) -> dict[str, list[str]]:
    return {system.name: _cost(system.cost) for system in report.systems}


def _cost(cost: Cost) -> list[str]:
    times = [cost.ms_per_query, *(cost.latency_ms or (None, None))]
    return [
        *("" if time is None else _ms(time) for time in times),
        *("" if number is None else f"{number:,}" for number in (cost.pairs, cost.tokens)),
    ]


def _ms(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:,.1f}"


COSTS = ("ms/query", "p50 ms", "p95 ms", "pairs", "tokens")
COMPARED = ("difference", "95% interval", "p", "p (Holm)", "won/tied/lost")


def _compared(found: Comparison) -> list[str]:
    return [
        f"{found.difference:+.3f}",
        f"{found.low:+.3f} to {found.high:+.3f}",
        _p(found.p),
        _p(found.p_holm),
        f"{found.wins}/{found.ties}/{found.losses}",
    ]


def _p(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _heads(report: Report) -> list[str]:
    first, *others = report.measures
    return [first, "95% interval", *others]


def as_markdown(report: Report) -> str:
    """Return both tables as Markdown, with an explanation of the columns."""
    costs = _costs(report)
    rows = [[name, *cells, *costs[name]] for name, cells in _quality(report).items()]
    parts = [f"**{report.title}**", ""]
    parts += [*_markdown(["ranker", *_heads(report), *COSTS], rows), ""]
    if report.shown:
        parts += [f"{report.method}:", ""]
        compared = [[found.name, *_compared(found)] for found in report.shown]
        parts += [*_markdown(["ranker", *COMPARED], compared), ""]
    parts += [f"- {line}" for line in _lines(report)]
    return "\n".join(parts).rstrip() + "\n"


def _lines(report: Report) -> list[str]:
    failures = (report.failures or {}).items()
    return [*report.notes, *(f"{name} failed: {reason}" for name, reason in failures)]


def _markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    return [line(heads), "|---|" + "---:|" * (len(heads) - 1), *map(line, rows)]


def show(report: Report, console: Console) -> None:
    """Print quality, cost and comparisons."""
    console.print(_table(report.title, _heads(report), _quality(report)))
    if any(system.cost.ms_per_query is not None for system in report.systems):
        console.print(_table("cost", COSTS, _costs(report)))
    if report.shown:
        compared = {found.name: _compared(found) for found in report.shown}
        console.print(_table(f"compared with {report.shown[0].baseline}", COMPARED, compared))
        console.print(report.method, markup=False, highlight=False)
    for line in _lines(report):
        console.print(f"note: {line}", markup=False, highlight=False)


def _table(title: str, heads: Sequence[str], rows: Mapping[str, Sequence[str]]) -> Table:
    table = Table(title=Text(title, style="bold"), title_justify="left", box=SIMPLE_HEAD)
    table.add_column("ranker", overflow="fold")
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    for name, cells in rows.items():
        table.add_row(Text(name), *cells)
    return table
