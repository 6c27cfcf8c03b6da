"""Where counts are kept: in memory, or in a file that processes share."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Protocol

from serve_app.client.locks import ForkLock

# Tool, model, tokens, requests.
Row = tuple[str, str, int, int]

_LOCK_TIMEOUT_S = 30.0
_TABLE = """CREATE TABLE IF NOT EXISTS usage (
  tool TEXT, model TEXT, tokens INTEGER NOT NULL, requests INTEGER NOT NULL,
  PRIMARY KEY (tool, model))"""
_ADD = """INSERT INTO usage VALUES (?, ?, ?, ?) ON CONFLICT (tool, model) DO UPDATE
  SET tokens = tokens + excluded.tokens, requests = requests + excluded.requests"""
_ROWS = "SELECT tool, model, tokens, requests FROM usage"


class Store(Protocol):
    """Counts by tool and model; each method is one step to everybody else."""

    def add(self, tool: str, model: str, tokens: int, requests: int) -> None: ...

    def rows(self) -> list[Row]: ...

    def clear(self) -> list[Row]:
        """Forget all counts; returns them."""
        ...


class MemoryStore:
    """This process's counts. A fork goes on from its parent's, on its own."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], tuple[int, int]] = {}
        self._lock = ForkLock()

    def add(self, tool: str, model: str, tokens: int, requests: int) -> None:
        with self._lock:
            before = self._counts.get((tool, model), (0, 0))
            self._counts[tool, model] = (before[0] + tokens, before[1] + requests)

    def rows(self) -> list[Row]:
        with self._lock:
            return [(*key, *counts) for key, counts in self._counts.items()]

    def clear(self) -> list[Row]:
        with self._lock:
            counts, self._counts = self._counts, {}
        return [(*key, *value) for key, value in counts.items()]


class FileStore:
    """Counts in an SQLite file, opened for each step: nothing to share by mistake over a fork.

    Raises sqlite3.OperationalError where the file can't be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._step() as database:
            database.execute(_TABLE)

    def add(self, tool: str, model: str, tokens: int, requests: int) -> None:
        with self._step() as database:
            database.execute(_ADD, (tool, model, tokens, requests))

    def rows(self) -> list[Row]:
        with self._step() as database:
            return list(database.execute(_ROWS))

    def clear(self) -> list[Row]:
        with self._step() as database:
            rows: list[Row] = list(database.execute(_ROWS))
            database.execute("DELETE FROM usage")
            return rows

    @contextmanager
    def _step(self) -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(self._path, timeout=_LOCK_TIMEOUT_S, isolation_level=None)
        with closing(connection):
            # At once, so that no step reads what another is about to change.
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")
