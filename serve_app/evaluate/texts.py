"""Read queries and documents by id, from JSONL or tab-separated files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from serve_app.evaluate.dataset import EvalError
from serve_app.evaluate.files import line_error, lines, parse, shorten

QUERY_IDS = ("_id", "id", "query_id", "qid")
DOCUMENT_IDS = ("_id", "id", "doc_id", "docid")
QUERY_TEXTS = ("text", "query")
DOCUMENT_TEXTS = ("text", "contents")


def read_queries(path: Path) -> dict[str, str]:
    """Read query texts by id, in file order. Raises EvalError, naming the invalid line."""
    found: dict[str, str] = {}
    for number, text in lines(path):
        if text.lstrip().startswith("{"):
            line = parse(path, number, text)
            key = _id(path, number, line, QUERY_IDS)
            query = _text(path, number, line, QUERY_TEXTS)
        else:
            key, query = _columns(path, number, text, (2,))
        if key in found:
            raise line_error(path, number, f"duplicate query {key!r}")
        if not query.strip():
            raise line_error(path, number, f"query {key!r} is empty")
        found[key] = query
    if not found:
        raise EvalError(f"{path} contains no queries")
    return found


def read_documents(path: Path) -> Iterator[tuple[str, str]]:
    """Stream the id and text of each document; a title is prepended to the text.

    Raises EvalError, naming the invalid line.
    """
    for number, text in lines(path):
        if text.lstrip().startswith("{"):
            line = parse(path, number, text)
            key = _id(path, number, line, DOCUMENT_IDS)
            body = _text(path, number, line, DOCUMENT_TEXTS)
            title = line.get("title") or ""
            if not isinstance(title, str):
                raise line_error(path, number, "title must be a string")
            yield key, f"{title} {body}".strip()
        else:
            key, *parts = _columns(path, number, text, (2, 3))
            yield key, " ".join(parts).strip()


def _id(path: Path, number: int, line: dict[str, Any], names: Sequence[str]) -> str:
    value = next((line[name] for name in names if name in line), None)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value:
        raise line_error(path, number, f"no id: expected one of {', '.join(names)}")
    return value


def _text(path: Path, number: int, line: dict[str, Any], names: Sequence[str]) -> str:
    value = next((line[name] for name in names if name in line), None)
    if not isinstance(value, str):
        raise line_error(path, number, f"no text: expected a string in {' or '.join(names)}")
    return value


def _columns(path: Path, number: int, text: str, allowed: Sequence[int]) -> list[str]:
    parts = text.split("\t")
    if len(parts) not in allowed:
        expected = " or ".join(map(str, allowed))
        raise line_error(
            path,
            number,
            f"expected {expected} tab-separated columns, got {len(parts)}: {shorten(text)}",
        )
    return parts
