"""Scores out of a provider's answer. What is not whole is an error: nothing is filled in."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from models.remote.forms import Form
from models.remote.types import Scale

# What float32 and JSON may add to a probability of one.
_SLACK = 1e-3


class BadAnswer(Exception):
    """What is wrong with the answer, without the provider's name."""


def entries(form: Form, answer: Any) -> list[Any]:
    """The list of results. Raises BadAnswer where there is none."""
    found = answer
    for key in form.results:
        found = found.get(key) if isinstance(found, dict) else None
    if not isinstance(found, list):
        where = ".".join(form.results) or "the body"
        raise BadAnswer(f"{where} is not a list of results")
    return found


def read(form: Form, found: list[Any], count: int, scale: Scale) -> list[float]:
    """The `count` documents' scores in their order. Raises BadAnswer."""
    scores: dict[int, float] = {}
    for entry in found:
        if not isinstance(entry, dict):
            raise BadAnswer("a result is not an object")
        index = _index(entry.get(form.index), count)
        if index in scores:
            raise BadAnswer(f"document {index} has two scores")
        scores[index] = _score(entry.get(form.score), index, scale)
    if len(scores) != count:
        raise BadAnswer(f"{len(scores)} of {count} documents have a score")
    return [scores[i] for i in range(count)]


def _index(value: Any, count: int) -> int:
    # Google's are the strings that were sent.
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadAnswer("a result has no index that is an integer")
    if not 0 <= value < count:
        raise BadAnswer(f"a result has the index {value}, of {count} documents")
    return value


def _score(value: Any, index: int, scale: Scale) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise BadAnswer(f"document {index} has no score that is a finite number")
    if scale == "probability" and not -_SLACK <= value <= 1 + _SLACK:
        raise BadAnswer(
            f"document {index} has the score {value:g}, which is no probability; set the model's "
            "`scores` to `logit` or `cosine`, whichever the provider gives"
        )
    return float(value)


def tokens_in(answer: Any) -> int | None:
    """The tokens that the answer says it cost, in any of the places where providers say so."""
    if not isinstance(answer, dict):
        return None
    meta = answer.get("meta")
    places = (answer.get("usage"), answer.get("tokens"), _of(meta, "tokens"), _of(meta, "usage"))
    for place in places:
        if not isinstance(place, Mapping):
            continue
        total = _whole(place.get("total_tokens"))
        if total is None:
            names = ("input_tokens", "output_tokens", "prompt_tokens", "completion_tokens")
            parts = [n for name in names if (n := _whole(place.get(name))) is not None]
            total = sum(parts) if parts else None
        if total is not None:
            return total
    return None


def units_in(answer: Any) -> int:
    """Units that are billed in place of tokens: Cohere's search units, Pinecone's rerank units."""
    if not isinstance(answer, dict):
        return 0
    billed = _of(answer.get("meta"), "billed_units")
    found = _whole(_of(billed, "search_units")) or _whole(_of(answer.get("usage"), "rerank_units"))
    return found or 0


def _of(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, Mapping) else None


def _whole(value: Any) -> int | None:
    """A count, which some write as 12.0."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return int(value) if value >= 0 and float(value).is_integer() else None
