"""A plot of quality against cost."""

from __future__ import annotations

from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

from serve_app.evaluate.dataset import EvalError
from serve_app.evaluate.report import Report, System

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

KINDS = (".png", ".svg", ".pdf")
# Okabe and Ito's palette, which is safe for colour-blind readers; markers differ as well.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
LOG_FROM = 5.0
NAME_CHARS = 28


def check(path: Path) -> None:
    """Check that `draw` can write to `path`. Raises EvalError."""
    if path.suffix.lower() not in KINDS:
        raise EvalError(f"{path}: the file name of a plot must end in {', '.join(KINDS)}")
    try:
        import matplotlib.figure  # noqa: F401
    except ModuleNotFoundError:
        raise EvalError("--plot needs matplotlib: pip install 'rerank-serve[eval]'") from None


def draw(report: Report, path: Path) -> None:
    """Plot the first metric with its 95% interval against milliseconds per query.

    Each ranker has a marker; one of unknown cost is a horizontal line. The names are beside the
    axes, where they cannot overlap.
    """
    import matplotlib

    # A name may contain a `$`, which would start a formula.
    with matplotlib.rc_context({"text.parse_math": False}):
        _figure(report).savefig(path, dpi=160)


def _figure(report: Report) -> Figure:
    from matplotlib.figure import Figure

    measure = report.measures[0]
    # Not pyplot, which looks for a display and keeps the figure in memory.
    figure = Figure(figsize=(8.4, 4.8), layout="constrained")
    axes = figure.add_subplot()
    for i, system in enumerate(report.systems):
        color = COLORS[i % len(COLORS)]
        mean, (low, high) = system.mean(measure), system.intervals[measure]
        ms = system.cost.ms_per_query
        if ms is None:
            axes.axhspan(low, high, color=color, alpha=0.10, linewidth=0)
            axes.axhline(mean, color=color, linestyle="--", linewidth=1.4, label=_label(system))
            continue
        axes.errorbar(
            [ms],
            [mean],
            # Rounding can put the mean just outside its bootstrap interval.
            yerr=[[max(0.0, mean - low)], [max(0.0, high - mean)]],
            color=color,
            marker=MARKERS[i % len(MARKERS)],
            markersize=8,
            capsize=4,
            linestyle="none",
            label=_label(system),
        )
    _scale(axes, [s.cost.ms_per_query for s in report.systems if s.cost.ms_per_query])
    axes.set_ylabel(f"mean {measure} (95% interval)")
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.set_title(f"{measure} against cost", loc="left", fontweight="bold", pad=24)
    axes.text(0, 1.02, report.title, transform=axes.transAxes, fontsize="small", color="#555555")
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, labelspacing=1.1)
    return figure


def _scale(axes: Axes, times: list[float]) -> None:
    from matplotlib.ticker import FuncFormatter

    if not times:
        axes.set_xticks([])
        axes.set_xlabel("cost unknown")
        return
    axes.set_xlabel("milliseconds per query")
    if max(times) >= LOG_FROM * min(times):
        axes.set_xscale("log")
        axes.set_xlim(min(times) / 2, max(times) * 2)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    else:
        axes.set_xlim(0, 1.15 * max(times))


def _label(system: System) -> str:
    ms = system.cost.ms_per_query
    # matplotlib leaves names that start with `_` out of the legend.
    name = "\n".join(wrap(system.name, NAME_CHARS))
    name = f" {name}" if name.startswith("_") else name
    return name if ms is not None else f"{name}\n(cost unknown)"
