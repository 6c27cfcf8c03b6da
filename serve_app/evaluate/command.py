"""The `rerank eval` command: run the evaluation and write the results."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, TaskID, TimeElapsedColumn

from models import hub
from models.types import ModelLoadError, ModelSpec
from serve_app.evaluate import collection, docstrings, measures, plot, report, samples
from serve_app.evaluate.dataset import Dataset, EvalError, Run, Status
from serve_app.evaluate.rankers import Source
from serve_app.evaluate.run import check_names, evaluate, write_runs
from serve_app.evaluate.sources import Bm25Ranker, Local, Service
from serve_app.evaluate.trec import read_run
from serve_app.settings import Settings
from serve_app.settings.models import LocalModel, ModelsSettings, RemoteModel

DOCSTRING_CANDIDATES = 50
CANDIDATES = 100
PIPED_WIDTH = 120


def run(options: argparse.Namespace, settings: Settings, url: str) -> int:
    """Measure, print and write; return the exit status. `url` is this machine's service."""
    try:
        return _run(options, settings, url)
    except EvalError as error:
        print(f"rerank: {error}", file=sys.stderr)
        return 1


def _run(options: argparse.Namespace, settings: Settings, url: str) -> int:
    _check_outputs(options)
    measured = measures.parse(options.metrics or measures.DEFAULT)
    # Before reading the data, so that a missing service or model is reported right away.
    sources = _sources(options, settings, url)
    console = Console(stderr=True)
    dataset = _dataset(options, lambda text: console.print(f"{text} …", highlight=False))
    if options.bm25 or (dataset.first_stage is None and dataset.candidates):
        sources.insert(0, _bm25(dataset))
    if not dataset.candidates and sources:
        raise EvalError("ranking needs texts: add --queries and --corpus to --qrels")
    with _progress(console) as progress:
        found = evaluate(
            dataset,
            sources,
            _runs(options.compare_run, dataset),
            measured,
            baseline=options.baseline,
            test=options.test,
            seed=options.seed,
            progress=progress,
        )
    if options.json:
        print(report.as_json(found))
    else:
        screen = Console()
        report.show(found, screen if screen.is_terminal else Console(width=PIPED_WIDTH))
    failed = _write(found, options)
    return 1 if failed or found.failures else 0


def _check_outputs(options: argparse.Namespace) -> None:
    """Check the output paths now, rather than after hours of scoring."""
    for path in (options.output, options.markdown, options.plot):
        if path is not None and not path.resolve().parent.is_dir():
            raise EvalError(f"the folder of {path} does not exist")
        if path is not None and path.is_dir():
            raise EvalError(f"{path} is a folder, not a file")
    folder = options.write_run
    if folder is not None and folder.exists() and not folder.is_dir():
        raise EvalError(f"{folder} is a file, not a folder")
    if options.plot is not None:
        plot.check(options.plot)


def _dataset(options: argparse.Namespace, status: Status) -> Dataset:
    queries = options.queries if isinstance(options.queries, Path) else None
    limit = options.limit or (options.queries if isinstance(options.queries, int) else None)
    trec = {"--queries": queries, "--corpus": options.corpus, "--qrels": options.qrels}
    chosen = [
        name
        for name, given in (
            ("--beir", options.beir),
            ("--jsonl", options.jsonl),
            (" ".join(name for name, given in trec.items() if given), any(trec.values())),
        )
        if given
    ]
    if len(chosen) > 1:
        raise EvalError(f"{' and '.join(chosen)} cannot be combined")
    depth, seed = options.candidates, options.seed
    if options.candidates_run is not None and not (options.beir or any(trec.values())):
        raise EvalError("--run requires --beir, or --queries, --corpus and --qrels")
    if options.jsonl is not None:
        return samples.read(options.jsonl, depth=depth, limit=limit, seed=seed, status=status)
    if options.beir is not None:
        files = collection.beir(options.beir, options.split, options.candidates_run)
    elif not chosen:
        return docstrings.read(
            options.corpus_size,
            depth=depth or DOCSTRING_CANDIDATES,
            limit=limit,
            seed=seed,
            status=status,
        )
    elif chosen == ["--qrels"] and options.candidates_run is None:
        return collection.judgements(options.qrels, limit=limit, seed=seed)
    elif missing := [name for name, given in trec.items() if not given]:
        raise EvalError(f"{chosen[0]} also requires {' and '.join(missing)}")
    else:
        assert queries is not None
        files = collection.Files(
            options.qrels.name, queries, options.corpus, options.qrels, options.candidates_run
        )
    return collection.read(files, depth=depth or CANDIDATES, limit=limit, seed=seed, status=status)


def _sources(options: argparse.Namespace, settings: Settings, url: str) -> list[Source]:
    named = [_named(given) for given in options.compared]
    if options.url is None and named:
        specs = [_spec(settings, name, model) for name, model in named]
        check_names([spec.name for spec in specs], None)
        return [Source(spec.name, partial(Local, spec)) for spec in specs]
    if options.url is None and (options.bm25 or options.compare_run):
        return []
    # Not a command-line option: other users of the machine can see a process's arguments.
    key = os.environ.get("RERANK_API_KEY")
    models: list[tuple[str | None, str | None]] = [*named] or [(None, None)]
    found = []
    for name, model in models:
        service = Service(options.url or url, model, key, options.concurrency)
        found.append(Source(name or service.name, partial(_open, service)))
    return found


def _open(service: Service) -> Service:
    return service


def _named(given: str) -> tuple[str | None, str]:
    """Split `NAME=VALUE`; an existing path that contains `=` is kept whole."""
    name, equals, value = given.partition("=")
    return (
        (name, value) if equals and name and value and not Path(given).exists() else (None, given)
    )


def _spec(settings: Settings, name: str | None, model: str) -> ModelSpec:
    """Return the spec of the entry in `models` with that name, else one from the settings."""
    found = next((m for m in settings.models.entries if m.name == model), None)
    if found is None:
        local_path = str(Path(model).resolve()) if Path(model).is_dir() else None
        (found,) = ModelsSettings(source=model, local_path=local_path).served()
    if not isinstance(found, LocalModel):
        what = "scored by a provider" if isinstance(found, RemoteModel) else "a pipeline"
        raise EvalError(
            f"{found.name} is {what}: start the service with `rerank up` and use "
            f"--url with --model {found.name}"
        )
    spec = settings.spec(found)
    try:
        hub.locate(spec, progress=True)
    except ModelLoadError as error:
        raise EvalError(str(error)) from None
    return replace(spec, name=name or spec.name)


def _bm25(dataset: Dataset) -> Source:
    return Source(Bm25Ranker.name, lambda: Bm25Ranker(dataset))


def _runs(arguments: Sequence[str], dataset: Dataset) -> dict[str, Run]:
    runs: dict[str, Run] = {}
    for argument in arguments:
        name, path = _named(argument)
        file = read_run(Path(path), dataset.queries)
        key = name or file.tag
        check_names([*runs, key], None)
        runs[key] = file.run
    return runs


class _ProgressBars:
    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task: TaskID | None = None

    def begin(self, name: str, queries: int) -> None:
        self._task = self._progress.add_task(name, total=queries)

    def advance(self) -> None:
        assert self._task is not None
        self._progress.advance(self._task)

    def failed(self, name: str, reason: str) -> None:
        self._progress.console.print(f"rerank: {name} failed: {reason}", markup=False)


@contextmanager
def _progress(console: Console) -> Iterator[_ProgressBars]:
    columns = (*Progress.get_default_columns(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        yield _ProgressBars(progress)


def _write(found: report.Report, options: argparse.Namespace) -> bool:
    """Write the requested files; return whether any of them failed."""
    outputs: list[tuple[Path | None, Callable[[Path], object]]] = [
        (options.output, lambda path: path.write_text(report.as_json(found) + "\n")),
        (options.markdown, lambda path: path.write_text(report.as_markdown(found))),
        (options.write_run, lambda path: write_runs(found, path)),
        (options.plot, lambda path: plot.draw(found, path)),
    ]
    failed = False
    for path, write in outputs:
        if path is None:
            continue
        try:
            write(path)
        except OSError as error:  # continue with the other files
            print(f"rerank: cannot write {path}: {error.strerror}", file=sys.stderr)
            failed = True
    return failed
