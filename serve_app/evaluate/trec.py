"""TREC files: relevance judgements (qrels) and rankings (runs)."""

from __future__ import annotations

import math
import re
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from serve_app.evaluate.dataset import EvalError, Ranked, Run
from serve_app.evaluate.files import line_error, lines, shorten


@dataclass(frozen=True, slots=True)
class RunFile:
    """A run file's ranking and its tag, the name its author gave the run."""

    run: Mapping[str, Ranked]
    tag: str


def read_qrels(path: Path) -> dict[str, dict[str, int]]:
    """Read relevance by query and document, from TREC's four columns or BEIR's three.

    TREC: `query iteration document relevance`; BEIR: `query document relevance`, with a header.
    Negative relevance counts as zero, as in trec_eval. Raises EvalError, naming the line.
    """
    found: dict[str, dict[str, int]] = {}
    for number, text in lines(path):
        parts = text.split()
        if len(parts) not in (3, 4):
            raise line_error(
                path, number, f"expected 3 or 4 columns, got {len(parts)}: {shorten(text)}"
            )
        query, document, relevance = parts[0], parts[-2], parts[-1]
        if not re.fullmatch(r"[+-]?\d+", relevance):
            if number == 1 and relevance.isalpha():
                continue  # the header of a BEIR file
            raise line_error(path, number, f"relevance: expected an integer, got {relevance!r}")
        judged = found.setdefault(query, {})
        if document in judged:
            raise line_error(
                path, number, f"duplicate judgement of document {document!r} for query {query!r}"
            )
        judged[document] = max(0, int(relevance))
    if not found:
        raise EvalError(f"{path} contains no judgements")
    return found


def read_run(path: Path, wanted: Container[str]) -> RunFile:
    """Read the rankings of the `wanted` queries, in trec_eval's order.

    Columns: `query Q0 document rank score tag`. As in trec_eval, only the score determines the
    order, and ties are ordered by descending document id. Raises EvalError, naming the line.
    """
    found: dict[str, dict[str, float]] = {}
    tag = ""
    for number, text in lines(path):
        parts = text.split()
        if len(parts) != 6:
            raise line_error(path, number, f"expected 6 columns, got {len(parts)}: {shorten(text)}")
        query, _, document, _, score, tag = parts
        if query not in wanted:
            continue
        ranked = found.setdefault(query, {})
        if document in ranked:
            raise line_error(path, number, f"duplicate document {document!r} for query {query!r}")
        ranked[document] = _score(path, number, score)
    if not tag:
        raise EvalError(f"{path} contains no ranking")
    return RunFile({query: _ordered(ranked) for query, ranked in found.items()}, tag)


def _score(path: Path, number: int, text: str) -> float:
    try:
        score = float(text)
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise line_error(path, number, f"score: expected a number, got {text!r}")
    return score


def _ordered(ranked: Mapping[str, float]) -> Ranked:
    by_id = sorted(ranked.items(), reverse=True)
    return sorted(by_id, key=lambda pair: -pair[1])


def write_run(path: Path, run: Run, tag: str) -> None:
    """Write a ranking; each score is at least one float32 step below the previous one.

    trec_eval reads scores as float32 and would reorder equal ones.
    """
    with path.open("w", encoding="utf-8") as file:
        for query, ranked in run.items():
            last = np.float32(np.inf)
            for rank, (document, score) in enumerate(ranked, 1):
                last = min(np.float32(score), np.nextafter(last, np.float32(-np.inf)))
                file.write(f"{query} Q0 {document} {rank} {last:.9g} {tag}\n")
