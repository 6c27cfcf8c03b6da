"""The evaluation: run each ranker, measure its quality, compare it with the baseline."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from ir_measures import Measure

from serve_app.evaluate import measures as measuring
from serve_app.evaluate.dataset import Dataset, EvalError, Run
from serve_app.evaluate.rankers import Cost, Source, rank_all
from serve_app.evaluate.report import Report, System
from serve_app.evaluate.significance import Comparison, Test, bootstrap_interval, compare
from serve_app.evaluate.trec import write_run


class ProgressListener(Protocol):
    """Receives the progress of the evaluation."""

    def begin(self, name: str, queries: int) -> None: ...

    def advance(self) -> None: ...

    def failed(self, name: str, reason: str) -> None: ...


def evaluate(
    dataset: Dataset,
    sources: Sequence[Source],
    given: Mapping[str, Run],
    measures: Sequence[Measure],
    *,
    baseline: str | None,
    test: Test,
    seed: int,
    progress: ProgressListener,
) -> Report:
    """Evaluate every source, and the existing rankings in `given`.

    A source that fails has no row; the others continue. Raises EvalError if all sources fail or
    the baseline is not among the rows.
    """
    first = [] if dataset.first_stage is None else [dataset.first_stage]
    check_names([*first, *given, *(source.name for source in sources)], baseline)
    runs: dict[str, tuple[Run, Cost]] = {}
    failures: dict[str, str] = {}
    if dataset.first_stage is not None:
        runs[dataset.first_stage] = (dataset.candidates, Cost(dataset.first_stage_ms))
    for name, run in given.items():
        runs[name] = (run, Cost())
    for source in sources:
        progress.begin(source.name, sum(bool(found) for found in dataset.candidates.values()))
        try:
            ranker = source.open()
            try:
                runs[source.name] = rank_all(ranker, dataset, progress.advance)
            finally:
                ranker.close()
        except EvalError as error:
            failures[source.name] = str(error)
            progress.failed(source.name, str(error))
    if sources and len(failures) == len(sources):
        raise EvalError(next(iter(failures.values())))
    systems = [
        _system(name, run, cost, dataset, measures, seed) for name, (run, cost) in runs.items()
    ]
    names = [str(measure) for measure in measures]
    return Report(
        dataset=dataset.name,
        queries=len(dataset.queries),
        documents=dataset.size,
        depth=dataset.depth,
        seed=seed,
        test=test,
        measures=tuple(names),
        systems=tuple(systems),
        comparisons=tuple(_comparisons(systems, names, baseline, test, seed)),
        notes=dataset.notes,
        failures=failures,
    )


def check_names(names: Sequence[str], baseline: str | None) -> None:
    """Check that row names are unique and include the baseline. Raises EvalError."""
    if duplicate := next((name for name in names if names.count(name) > 1), None):
        raise EvalError(f"two rows are named {duplicate!r}; rename one with NAME={duplicate}")
    if baseline is not None and baseline not in names:
        raise EvalError(f"no row is named {baseline!r} (--baseline); rows: {', '.join(names)}")


def _system(
    name: str, run: Run, cost: Cost, dataset: Dataset, measures: Sequence[Measure], seed: int
) -> System:
    values = measuring.per_query(measures, dataset.qrels, run)
    intervals = {measure: bootstrap_interval(each, seed) for measure, each in values.items()}
    return System(name, run, cost, values, intervals)


def _comparisons(
    systems: Sequence[System], measures: Sequence[str], baseline: str | None, test: Test, seed: int
) -> list[Comparison]:
    names = [system.name for system in systems]
    base = names[0] if baseline is None else baseline
    if base not in names:  # it failed; the report lists it under failures
        return []
    return [
        comparison
        for measure in measures
        for comparison in compare(
            base, {s.name: s.values[measure] for s in systems}, measure, test, seed
        )
    ]


def write_runs(report: Report, folder: Path) -> list[Path]:
    """Write a TREC run file per ranker to `folder`, with unusual characters replaced by `-`."""
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for system in report.systems:
        tag = re.sub(r"[^\w.-]+", "-", system.name).strip("-.") or "ranker"
        path = folder / f"{tag}.run"
        if path in written:
            path = folder / f"{tag}-{len(written)}.run"
        write_run(path, system.run, tag)
        written.append(path)
    return written
