"""Measures by ir_measures, on the order that rankers gave."""

from __future__ import annotations

from collections.abc import Sequence

import ir_measures
from ir_measures import Measure

from serve_app.evaluate.dataset import EvalError, Qrels, Run

DEFAULT = ("nDCG@10", "RR@10", "R@10", "AP", "P@1")


def parse(names: Sequence[str]) -> list[Measure]:
    """Measures by name, once each: `nDCG@10`, `RR@10` (or `MRR@10`), `AP` (`MAP`), `R@100`, …

    Raises EvalError for a name that is none, or needs a tool that is not installed.
    """
    found: dict[str, Measure] = {}
    for name in names:
        try:
            measure = ir_measures.parse_measure(name)
            # Some need a program that may not be there, which shows in use alone.
            list(ir_measures.iter_calc([measure], {"q": {"d": 1}}, {"q": {"d": 1.0}}))
        except Exception:  # names are read as Python: any of its errors means a wrong one
            raise EvalError(
                f"{name!r} is not a measure that can be computed here; examples: "
                "nDCG@10, RR@10, R@100, AP, P@5, Success@1, Rprec"
            ) from None
        found[str(measure)] = measure
    return list(found.values())


def per_query(measures: Sequence[Measure], qrels: Qrels, run: Run) -> dict[str, list[float]]:
    """Each measure's value for each query of `qrels`, in their order.

    A query that the run leaves out counts 0. The run's order is what counts: equal scores stay
    as they stand, where trec_eval would put them in an order of its own.
    """
    ranks = {
        query: {name: float(-place) for place, (name, _) in enumerate(run.get(query, ()))}
        for query in qrels
    }
    places = {query: i for i, query in enumerate(qrels)}
    values = {str(measure): [0.0] * len(places) for measure in measures}
    judged = {query: dict(documents) for query, documents in qrels.items()}
    for metric in ir_measures.iter_calc(measures, judged, ranks):
        values[str(metric.measure)][places[metric.query_id]] = float(metric.value)
    return values
