"""Ranking quality on docstrings of installed packages: BM25's order beside the service's."""

from serve_app.evaluate.run import run_eval

__all__ = ["run_eval"]
