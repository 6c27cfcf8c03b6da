"""Queries and documents by id, from JSONL or tab-separated files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from serve_app.evaluate.dataset import EvalError
from serve_app.evaluate.files import lines, parse, shown, wrong

QUERY_IDS = ("_id", "id", "query_id", "qid")
DOCUMENT_IDS = ("_id", "id", "doc_id", "docid")
QUERY_TEXTS = ("text", "query")
DOCUMENT_TEXTS = ("text", "contents")


def read_queries(path: Path) -> dict[str, str]:
    """Text by id, in the file's order. Raises EvalError naming the line that is wrong."""
    found: dict[str, str] = {}
    for number, text in lines(path):
        if text.lstrip().startswith("{"):
            line = parse(path, number, text)
            key = _id(path, number, line, QUERY_IDS)
            query = _text(path, number, line, QUERY_TEXTS)
        else:
            key, query = _columns(path, number, text, (2,))
        if key in found:
            raise wrong(path, number, f"the query {key!r} comes twice")
        if not query.strip():
            raise wrong(path, number, f"the query {key!r} is empty")
        found[key] = query
    if not found:
        raise EvalError(f"{path} holds no query")
    return found


def read_documents(path: Path) -> Iterator[tuple[str, str]]:
    """Id and text of each document, one in memory at a time; a title is put before the text.

    Raises EvalError naming the line that is wrong.
    """
    for number, text in lines(path):
        if text.lstrip().startswith("{"):
            line = parse(path, number, text)
            key = _id(path, number, line, DOCUMENT_IDS)
            body = _text(path, number, line, DOCUMENT_TEXTS)
            title = line.get("title") or ""
            if not isinstance(title, str):
                raise wrong(path, number, "title: a string is wanted")
            yield key, f"{title} {body}".strip()
        else:
            key, *parts = _columns(path, number, text, (2, 3))
            yield key, " ".join(parts).strip()


def _id(path: Path, number: int, line: dict[str, Any], names: Sequence[str]) -> str:
    value = next((line[name] for name in names if name in line), None)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value:
        raise wrong(path, number, f"an id is missing: one of {', '.join(names)}")
    return value


def _text(path: Path, number: int, line: dict[str, Any], names: Sequence[str]) -> str:
    value = next((line[name] for name in names if name in line), None)
    if not isinstance(value, str):
        raise wrong(path, number, f"a text is missing: one of {', '.join(names)}, a string")
    return value


def _columns(path: Path, number: int, text: str, allowed: Sequence[int]) -> list[str]:
    parts = text.split("\t")
    if len(parts) not in allowed:
        wanted = " or ".join(map(str, allowed))
        raise wrong(
            path,
            number,
            f"{wanted} columns with tabs between them are wanted, not {len(parts)}: {shown(text)}",
        )
    return parts
