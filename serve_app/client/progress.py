"""Progress reports: a bar, or the caller's function."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# Called with (documents done, total documents).
Report = Callable[[int, int], None]
Progress = bool | Report


@contextmanager
def progress_bar(progress: Progress, total: int) -> Iterator[Callable[[int], None]]:
    """Yield a function to call with the number of documents done since the last call.

    `progress` True draws a bar on stderr with rich; a function is called with (done, total).
    Raises ModuleNotFoundError if a bar is requested and rich is not installed.
    """
    done = 0
    report: Report = progress if callable(progress) else _nothing

    def advance(more: int) -> None:
        nonlocal done
        done += more
        report(done, total)

    if progress is not True:
        yield advance
        return
    try:
        from rich.console import Console
        from rich.progress import Progress as Bar
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("a progress bar needs rich: pip install rich") from error
    with Bar(console=Console(file=sys.stderr)) as bar:
        task = bar.add_task("reranking", total=total)
        report = lambda done, _: bar.update(task, completed=done)  # noqa: E731
        yield advance


def _nothing(done: int, total: int) -> None:
    return None
