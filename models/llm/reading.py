"""Read judgements from a model's answer. An unreadable answer gives None, never a guess."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from models.llm.prompts import MAX_RATING

_MAX_REASON_CHARS = 1000
_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?![\w])")
_OUT_OF = re.compile(rf"\s*(?:/|out of)\s*{MAX_RATING}\b", re.IGNORECASE)
_YES_NO = re.compile(r"\W*(yes|no)\b", re.IGNORECASE)
_BRACKETED = re.compile(r"\[\s*(\d+)\s*\]")
_INTEGER = re.compile(r"\d+")


def json_in(text: str) -> Any:
    """The JSON object or list in the text, also inside a code fence, or None."""
    for opening, closing in (("{", "}"), ("[", "]")):
        start, end = text.find(opening), text.rfind(closing)
        if 0 <= start < end:
            try:
                return json.loads(text[start : end + 1])
            except ValueError:
                continue
    return None


def rating(text: str) -> float | None:
    """A number from 0 to MAX_RATING: `score` of the JSON, else the only number in the text."""
    found = json_in(text)
    value: Any = found.get("score") if isinstance(found, dict) else None
    if isinstance(value, str) or not isinstance(found, dict):
        words = value if isinstance(value, str) else text
        numbers = set(_NUMBER.findall(_OUT_OF.sub("", words)))
        value = float(numbers.pop()) if len(numbers) == 1 else None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value) if 0 <= value <= MAX_RATING else None


def yes_or_no(text: str) -> float | None:
    """1 for yes, 0 for no: `answer` of the JSON, else the first word of the text."""
    found = json_in(text)
    value = found.get("answer") if isinstance(found, dict) else text
    if isinstance(value, bool):
        return float(value)
    match = _YES_NO.match(value) if isinstance(value, str) else None
    return float(match[1].lower() == "yes") if match else None


def probability_of_yes(probabilities: Sequence[dict[str, float]]) -> float | None:
    """P(yes) / (P(yes) + P(no)) at the answer's first yes or no; None if there is neither."""
    for position in probabilities:
        yes, no = position.get("yes", 0.0), position.get("no", 0.0)
        if yes + no > 0 and max(position, key=position.__getitem__) in ("yes", "no"):
            return yes / (yes + no)
    return None


def reason(text: str) -> str:
    """`reason` of the JSON; empty if there is none."""
    found = json_in(text)
    value = found.get("reason") if isinstance(found, dict) else None
    return " ".join(value.split())[:_MAX_REASON_CHARS] if isinstance(value, str) else ""


def numbers(text: str) -> list[int]:
    """The numbers in a ranking: the JSON list, else those in brackets, else all numbers."""
    found = json_in(text)
    if isinstance(found, dict):
        found = found.get("ranking")
    if isinstance(found, list) and len(found) > 1:
        return [n for n in map(_integer, found) if n is not None]
    named = _BRACKETED.findall(text) or _INTEGER.findall(text)
    return [int(n) for n in named if len(n) < 10]


def repair(named: Sequence[int], count: int) -> tuple[list[int], Counter[str]]:
    """Complete a judge's ranking, given as numbers from 1, to an order of all `count` documents.

    As in RankGPT: only the first occurrence of a number counts, unknown numbers are dropped, and
    missing documents follow in their original order. Also returns how many numbers were
    `repeated`, `unknown` and `missing`.
    """
    order: list[int] = []
    seen: set[int] = set()
    repaired: Counter[str] = Counter()
    for number in named:
        if not 1 <= number <= count:
            repaired["unknown"] += 1
        elif number in seen:
            repaired["repeated"] += 1
        else:
            seen.add(number)
            order.append(number - 1)
    missing = [i for i in range(count) if i + 1 not in seen]
    if missing:
        repaired["missing"] = len(missing)
    return order + missing, repaired


def _integer(value: Any) -> int | None:
    if isinstance(value, str) and (match := _INTEGER.search(value)) and len(match[0]) < 10:
        return int(match[0])
    return value if isinstance(value, int) and not isinstance(value, bool) else None
