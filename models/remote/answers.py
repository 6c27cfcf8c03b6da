"""Read scores from a provider's answer. An incomplete answer is an error: no score is made up."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from models.remote.forms import Form
from models.remote.types import Scale

# Rounding error that float32 and JSON may add to a probability.
_SLACK = 1e-3


class BadAnswer(Exception):
    """The answer is unusable. The message says why, without naming the provider."""


def entries(form: Form, answer: Any) -> list[Any]:
    """The list of results. Raises BadAnswer if there is none."""
    found = answer
    for key in form.results:
        found = found.get(key) if isinstance(found, dict) else None
    if not isinstance(found, list):
        where = ".".join(form.results) or "the response body"
        raise BadAnswer(f"{where} is not a list of results")
    return found


def read(form: Form, found: list[Any], count: int, scale: Scale) -> list[float]:
    """The scores of `count` documents, in document order. Raises BadAnswer."""
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
    # Google returns the record ids as strings, as they were sent.
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadAnswer("a result has no integer index")
    if not 0 <= value < count:
        raise BadAnswer(f"a result has index {value}, but there are {count} documents")
    return value


def _score(value: Any, index: int, scale: Scale) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise BadAnswer(f"the score of document {index} is missing or not a finite number")
    if scale == "probability" and not -_SLACK <= value <= 1 + _SLACK:
        raise BadAnswer(
            f"document {index} has score {value:g}, which is not a probability; set the model's "
            "`scores` to `logit` or `cosine`, whichever the provider returns"
        )
    return float(value)


def tokens_in(answer: Any) -> int | None:
    """The token count in the answer, from any of the fields that providers use, or None."""
    if not isinstance(answer, dict):
        return None
    meta = answer.get("meta")
    places = (answer.get("usage"), answer.get("tokens"), _get(meta, "tokens"), _get(meta, "usage"))
    for place in places:
        if not isinstance(place, Mapping):
            continue
        total = _count(place.get("total_tokens"))
        if total is None:
            names = ("input_tokens", "output_tokens", "prompt_tokens", "completion_tokens")
            parts = [n for name in names if (n := _count(place.get(name))) is not None]
            total = sum(parts) if parts else None
        if total is not None:
            return total
    return None


def units_in(answer: Any) -> int:
    """Units billed instead of tokens: Cohere's search units, Pinecone's rerank units."""
    if not isinstance(answer, dict):
        return 0
    billed = _get(answer.get("meta"), "billed_units")
    found = _count(_get(billed, "search_units")) or _count(
        _get(answer.get("usage"), "rerank_units")
    )
    return found or 0


def _get(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, Mapping) else None


def _count(value: Any) -> int | None:
    """A non-negative integer, or None; some providers send 12.0."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return int(value) if value >= 0 and float(value).is_integer() else None
