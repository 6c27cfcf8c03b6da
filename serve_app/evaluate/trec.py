"""TREC's files: relevance judgements (qrels) and rankings (runs)."""

from __future__ import annotations

import math
import re
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from serve_app.evaluate.dataset import EvalError, Ranked, Run
from serve_app.evaluate.files import lines, shown, wrong


@dataclass(frozen=True, slots=True)
class RunFile:
    """A ranking as a file gives it, and the tag that its writer gave it."""

    run: Mapping[str, Ranked]
    tag: str


def read_qrels(path: Path) -> dict[str, dict[str, int]]:
    """Relevance by query and document, from TREC's four columns or BEIR's three.

    TREC: `query iteration document relevance`; BEIR: `query document relevance` after a heading.
    Relevance below zero counts as zero, as in trec_eval. Raises EvalError naming the line.
    """
    found: dict[str, dict[str, int]] = {}
    for number, text in lines(path):
        parts = text.split()
        if len(parts) not in (3, 4):
            raise wrong(path, number, f"3 or 4 columns are wanted, not {len(parts)}: {shown(text)}")
        query, document, relevance = parts[0], parts[-2], parts[-1]
        if not re.fullmatch(r"[+-]?\d+", relevance):
            if number == 1 and relevance.isalpha():
                continue  # the heading of BEIR's files
            raise wrong(path, number, f"relevance: a whole number is wanted, not {relevance!r}")
        judged = found.setdefault(query, {})
        if document in judged:
            raise wrong(path, number, f"{document!r} is judged twice for the query {query!r}")
        judged[document] = max(0, int(relevance))
    if not found:
        raise EvalError(f"{path} holds no judgement")
    return found


def read_run(path: Path, wanted: Container[str]) -> RunFile:
    """The ranking of the queries that are wanted, in trec_eval's order.

    Columns: `query Q0 document rank score tag`. As in trec_eval the score alone gives the order,
    and equal scores go by falling document id. Raises EvalError naming the line that is wrong.
    """
    found: dict[str, dict[str, float]] = {}
    tag = ""
    for number, text in lines(path):
        parts = text.split()
        if len(parts) != 6:
            raise wrong(path, number, f"6 columns are wanted, not {len(parts)}: {shown(text)}")
        query, _, document, _, score, tag = parts
        if query not in wanted:
            continue
        ranked = found.setdefault(query, {})
        if document in ranked:
            raise wrong(path, number, f"{document!r} comes twice for the query {query!r}")
        ranked[document] = _score(path, number, score)
    if not tag:
        raise EvalError(f"{path} holds no ranking")
    return RunFile({query: _ordered(ranked) for query, ranked in found.items()}, tag)


def _score(path: Path, number: int, text: str) -> float:
    try:
        score = float(text)
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise wrong(path, number, f"score: a number is wanted, not {text!r}")
    return score


def _ordered(ranked: Mapping[str, float]) -> Ranked:
    by_id = sorted(ranked.items(), reverse=True)
    return sorted(by_id, key=lambda pair: -pair[1])


def write_run(path: Path, run: Run, tag: str) -> None:
    """Write a ranking; equal scores are set apart by the least that 32 bits hold.

    trec_eval reads scores at 32 bits and puts equal ones in an order of its own.
    """
    with path.open("w", encoding="utf-8") as file:
        for query, ranked in run.items():
            last = np.float32(np.inf)
            for rank, (document, score) in enumerate(ranked, 1):
                last = min(np.float32(score), np.nextafter(last, np.float32(-np.inf)))
                file.write(f"{query} Q0 {document} {rank} {last:.9g} {tag}\n")
