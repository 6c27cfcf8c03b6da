"""The progress bar."""

from __future__ import annotations

import pytest

from serve_app.client import Reranker


def test_progress_bar(reranker: Reranker, capfd: pytest.CaptureFixture[str]) -> None:
    reranker.rerank("a", ["a"] * 10, batch_size=3, progress=True)
    assert "100%" in capfd.readouterr().err
