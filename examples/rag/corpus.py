"""A corpus that every Python installation has: the docstrings of its standard library."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator

from examples.rag.protocols import Passage

MODULES = [
    "base64",
    "bisect",
    "calendar",
    "collections",
    "csv",
    "datetime",
    "difflib",
    "fractions",
    "functools",
    "glob",
    "gzip",
    "hashlib",
    "heapq",
    "inspect",
    "json",
    "logging",
    "pathlib",
    "pickle",
    "pprint",
    "random",
    "secrets",
    "shutil",
    "statistics",
    "string",
    "subprocess",
    "tempfile",
    "textwrap",
    "threading",
    "urllib.parse",
    "zipfile",
]
MIN_CHARS = 60


def docstrings() -> list[Passage]:
    """Return one passage per documented function and class; `id` is its qualified name."""
    return [Passage(name, text, {"module": m}) for m in MODULES for name, text in _of(m)]


def _of(module_name: str) -> Iterator[tuple[str, str]]:
    module = importlib.import_module(module_name)
    for name, value in sorted(vars(module).items()):
        own = getattr(value, "__module__", None) == module_name
        if not own or name.startswith("_") or not callable(value):
            continue
        text = inspect.getdoc(value) or ""
        if len(text) >= MIN_CHARS:
            yield f"{module_name}.{name}", f"{module_name}.{name}: {text}"
