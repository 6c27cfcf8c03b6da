"""Errors for unreadable files."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from serve_app.evaluate.dataset import EvalError
from serve_app.evaluate.texts import read_documents, read_queries


def test_unreadable_files_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "queries.tsv"
    path.write_bytes(b"q1\tfine\nq2\t\xff\n")
    with pytest.raises(EvalError, match=r"queries\.tsv:2: not UTF-8"):
        read_queries(path)
    path.write_bytes(gzip.compress(b"q1\tfine\n" * 99)[:-12])
    with pytest.raises(EvalError, match="corrupt gzip file"):
        list(read_documents(path))
    with pytest.raises(EvalError, match=r"cannot read .*none: No such file"):
        read_queries(tmp_path / "none")
