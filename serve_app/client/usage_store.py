"""Where usage counts are stored: in memory, or in a file shared between processes."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Protocol

from serve_app.client.locks import ForkLock

# (tool, model, tokens, requests)
Row = tuple[str, str, int, int]

_LOCK_TIMEOUT_S = 30.0
_TABLE = """CREATE TABLE IF NOT EXISTS usage (
  tool TEXT, model TEXT, tokens INTEGER NOT NULL, requests INTEGER NOT NULL,
  PRIMARY KEY (tool, model))"""
_ADD = """INSERT INTO usage VALUES (?, ?, ?, ?) ON CONFLICT (tool, model) DO UPDATE
  SET tokens = tokens + excluded.tokens, requests = requests + excluded.requests"""
_ROWS = "SELECT tool, model, tokens, requests FROM usage"


class Store(Protocol):
    """Counts by tool and model; every method is atomic."""

    def add(self, tool: str, model: str, tokens: int, requests: int) -> None: ...

    def rows(self) -> list[Row]: ...

    def clear(self) -> list[Row]:
        """Delete all counts and return them."""
        ...


class MemoryStore:
    """Counts of this process; a forked child starts with a copy of its parent's."""

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
    """Counts in an SQLite file, opened per operation so that no connection crosses a fork.

    Raises sqlite3.OperationalError if the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._transaction() as database:
            database.execute(_TABLE)

    def add(self, tool: str, model: str, tokens: int, requests: int) -> None:
        with self._transaction() as database:
            database.execute(_ADD, (tool, model, tokens, requests))

    def rows(self) -> list[Row]:
        with self._transaction() as database:
            return list(database.execute(_ROWS))

    def clear(self) -> list[Row]:
        with self._transaction() as database:
            rows: list[Row] = list(database.execute(_ROWS))
            database.execute("DELETE FROM usage")
            return rows

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(self._path, timeout=_LOCK_TIMEOUT_S, isolation_level=None)
        with closing(connection):
            # Take the write lock now, so that no read is outdated by the time of the write.
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")
