"""Metrics, computed with ir_measures from the rankers' order."""

from __future__ import annotations

from collections.abc import Sequence

import ir_measures
from ir_measures import Measure

from serve_app.evaluate.dataset import EvalError, Qrels, Run

DEFAULT = ("nDCG@10", "RR@10", "R@10", "AP", "P@1")


def parse(names: Sequence[str]) -> list[Measure]:
    """Parse metric names and drop duplicates: `nDCG@10`, `RR@10` or `MRR@10`, `AP` or `MAP`, …

    Raises EvalError for an unknown name, or one that needs a tool that is not installed.
    """
    found: dict[str, Measure] = {}
    for name in names:
        try:
            measure = ir_measures.parse_measure(name)
            # Some metrics need an external program; only computing one shows if it is missing.
            list(ir_measures.iter_calc([measure], {"q": {"d": 1}}, {"q": {"d": 1.0}}))
        except Exception:  # names are parsed as Python, so any exception means an invalid one
            raise EvalError(
                f"{name!r} is not an available metric; examples: nDCG@10, RR@10, R@100, AP, P@5, "
                "Success@1, Rprec"
            ) from None
        found[str(measure)] = measure
    return list(found.values())


def per_query(measures: Sequence[Measure], qrels: Qrels, run: Run) -> dict[str, list[float]]:
    """Return each metric's values, one per query of `qrels`, in their order.

    A query missing from the run counts as 0. The run's order decides, also among equal scores,
    which trec_eval would reorder.
    """
    ranks = {
        query: {name: float(-rank) for rank, (name, _) in enumerate(run.get(query, ()))}
        for query in qrels
    }
    positions = {query: i for i, query in enumerate(qrels)}
    values = {str(measure): [0.0] * len(positions) for measure in measures}
    judged = {query: dict(documents) for query, documents in qrels.items()}
    for metric in ir_measures.iter_calc(measures, judged, ranks):
        values[str(metric.measure)][positions[metric.query_id]] = float(metric.value)
    return values
