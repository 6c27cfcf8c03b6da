"""A retrieval corpus built from the docstrings of installed Python packages."""

from __future__ import annotations

import ast
import random
import re
import sysconfig
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from serve_app.evaluate import bm25
from serve_app.evaluate.dataset import Dataset, EvalError, Status, sample

LIMIT = 500
QUERY_CHARS = range(20, 201)
BODY_CHARS = range(100, 4001)
PER_PACKAGE = 150
FILES_PER_PACKAGE = 400
MAX_FILE_BYTES = 400_000


@dataclass(frozen=True, slots=True)
class Corpus:
    """Queries and documents; document i is the only relevant one for query i."""

    queries: tuple[str, ...]
    documents: tuple[str, ...]


def build(size: int, seed: int, roots: Sequence[Path] | None = None) -> Corpus:
    """Build a corpus of `size` docstrings from the packages under `roots`.

    `roots` defaults to this interpreter's packages. The query is a docstring's first paragraph,
    the document the rest. The same packages and seed produce the same corpus.
    """
    folders = roots or [Path(sysconfig.get_path(name)) for name in ("purelib", "stdlib")]
    rng = random.Random(seed)
    packages = sorted({package for root in folders for package in _packages(root)})
    found: dict[str, str] = {}
    bodies: set[str] = set()
    for package in packages:
        pairs = [pair for file in _files(package, rng) for pair in _pairs(file)]
        rng.shuffle(pairs)
        taken = 0
        for query, body in pairs:
            if taken < PER_PACKAGE and query not in found and body not in bodies:
                found[query] = body
                bodies.add(body)
                taken += 1
    chosen = rng.sample(sorted(found), min(size, len(found)))
    return Corpus(tuple(chosen), tuple(found[query] for query in chosen))


def read(
    size: int,
    *,
    depth: int,
    limit: int | None,
    seed: int,
    status: Status,
    roots: Sequence[Path] | None = None,
) -> Dataset:
    """Build a dataset: at most `limit` (500) queries with BM25's best `depth` documents each.

    Raises EvalError if the packages have too few docstrings.
    """
    status(f"reading docstrings of installed packages (corpus of {size:,})")
    corpus = build(size, seed, roots)
    if len(corpus.documents) < 2:
        raise EvalError("the installed packages have too few docstrings")
    texts = {str(i): text for i, text in enumerate(corpus.documents)}
    chosen = sample(list(texts), limit or LIMIT, seed)
    queries = {key: corpus.queries[int(key)] for key in chosen}
    index = bm25.Bm25(texts.items())
    started = time.perf_counter()
    candidates = {key: index.search(query, depth) for key, query in queries.items()}
    return Dataset(
        name="docstrings of installed packages",
        queries=queries,
        qrels={key: {key: 1} for key in chosen},
        candidates=candidates,
        texts=texts,
        size=len(texts),
        first_stage=bm25.NAME,
        first_stage_ms=1000 * (time.perf_counter() - started) / len(chosen),
    )


def _packages(root: Path) -> Iterator[Path]:
    for path in root.iterdir():
        if path.suffix == ".py" or (path / "__init__.py").is_file():
            yield path


def _files(package: Path, rng: random.Random) -> list[Path]:
    if package.is_file():
        return [package]
    files = sorted(
        path
        for path in package.rglob("*.py")
        if not {"tests", "test", "_vendor", "idlelib"} & set(path.relative_to(package).parts)
        and path.stat().st_size <= MAX_FILE_BYTES
    )
    return rng.sample(files, min(FILES_PER_PACKAGE, len(files)))


def _pairs(file: Path) -> Iterator[tuple[str, str]]:
    try:
        # Third-party files may have invalid escapes, which the parser warns about.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, RecursionError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module):
            pair = _split(ast.get_docstring(node) or "")
            if pair is not None:
                yield pair


def _split(docstring: str) -> tuple[str, str] | None:
    """Return the first paragraph and the rest, if both are prose of a useful length."""
    first, _, rest = docstring.partition("\n\n")
    query, body = " ".join(first.split()), rest.strip()
    is_prose = len(re.findall(r"[A-Za-z]{2,}", query)) >= 4
    if len(query) in QUERY_CHARS and len(body) in BODY_CHARS and is_prose and query not in body:
        return query, body
    return None
