"""Quality against cost, as a picture."""

from __future__ import annotations

from pathlib import Path

from serve_app.evaluate.dataset import EvalError
from serve_app.evaluate.report import Report, System

KINDS = (".png", ".svg", ".pdf")
# Okabe and Ito's colours, which colour-blind readers tell apart; markers differ too.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
LOG_FROM = 5.0


def check(path: Path) -> None:
    """Raises EvalError where `draw` could not draw to it."""
    if path.suffix.lower() not in KINDS:
        raise EvalError(f"{path}: a plot's name ends in {', '.join(KINDS)}")
    try:
        import matplotlib.figure  # noqa: F401
    except ModuleNotFoundError:
        raise EvalError("--plot needs matplotlib: pip install 'rerank-serve[eval]'") from None


def draw(report: Report, path: Path) -> None:
    """The first measure with its 95% interval over milliseconds a query, a mark a ranker.

    A ranking without a known cost is a line across. Names stand beside the axes, where none
    covers another.
    """
    from matplotlib.figure import Figure

    measure = report.measures[0]
    # No pyplot: it would look for a display, and keep the figure.
    figure = Figure(figsize=(8.4, 4.8), layout="constrained")
    axes = figure.add_subplot()
    for place, system in enumerate(report.systems):
        color = COLORS[place % len(COLORS)]
        mean, (low, high) = system.mean(measure), system.intervals[measure]
        ms = system.cost.ms_per_query
        if ms is None:
            axes.axhspan(low, high, color=color, alpha=0.10, linewidth=0)
            axes.axhline(mean, color=color, linestyle="--", linewidth=1.4, label=_label(system))
            continue
        axes.errorbar(
            [ms],
            [mean],
            # A bootstrap interval need not hold the mean to the last digit.
            yerr=[[max(0.0, mean - low)], [max(0.0, high - mean)]],
            color=color,
            marker=MARKERS[place % len(MARKERS)],
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
    figure.suptitle(f"{measure} against cost", x=0.01, ha="left", fontweight="bold")
    axes.set_title(report.title, loc="left", fontsize="small", color="#555555")
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, labelspacing=1.1)
    figure.savefig(path, dpi=160)


def _scale(axes: object, times: list[float]) -> None:
    from matplotlib.axes import Axes
    from matplotlib.ticker import FuncFormatter

    assert isinstance(axes, Axes)
    if not times:
        axes.set_xticks([])
        axes.set_xlabel("no ranking here has a known cost")
        return
    axes.set_xlabel("milliseconds a query")
    if max(times) >= LOG_FROM * min(times):
        axes.set_xscale("log")
        axes.set_xlim(min(times) / 2, max(times) * 2)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    else:
        axes.set_xlim(0, 1.15 * max(times))


def _label(system: System) -> str:
    ms = system.cost.ms_per_query
    # A `_` at its start would hide it from the legend; a `$` would begin a formula.
    name = system.name.replace("$", r"\$")
    return f"{' ' if name.startswith('_') else ''}{name}" + (
        "\n(cost not known)" if ms is None else ""
    )
