"""Lines of text files, gzip or not, with their numbers for errors."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import IO, Any

from serve_app.evaluate.dataset import EvalError

GZIP = b"\x1f\x8b"
SHOWN_CHARS = 80


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number (from 1) and text of each line that is not blank; one is in memory at a time.

    Raises EvalError where the file can't be read or is not UTF-8.
    """
    number = 0
    try:
        with path.open("rb") as packed, _unpacked(packed) as file:
            for number, raw in enumerate(file, 1):
                text = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
                if text.strip():
                    yield number, text
    except UnicodeDecodeError as error:
        raise wrong(path, number, f"not UTF-8 ({error.reason})") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise EvalError(f"{path} is damaged gzip: {error}") from None
    except OSError as error:
        raise EvalError(f"{path} can't be read: {error.strerror or error}") from None


def objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number and content of each line of a JSONL file. Raises EvalError."""
    for number, text in lines(path):
        yield number, parse(path, number, text)


def parse(path: Path, number: int, text: str) -> dict[str, Any]:
    """A line's JSON object. Raises EvalError naming the line."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise wrong(path, number, f"not JSON ({error}): {shown(text)}") from None
    if not isinstance(value, dict):
        raise wrong(path, number, f"a JSON object is wanted, not {shown(text)}")
    return value


def wrong(path: Path, number: int, problem: str) -> EvalError:
    """The error that names a file's line."""
    return EvalError(f"{path}:{number}: {problem}")


def shown(text: str) -> str:
    """The beginning of a text, for a message."""
    return repr(text if len(text) <= SHOWN_CHARS else text[:SHOWN_CHARS] + "…")


def _unpacked(file: BufferedReader) -> IO[bytes]:
    # By content: a file's name may have lost its ending.
    if file.peek(2)[:2] == GZIP:
        return gzip.GzipFile(fileobj=file)  # type: ignore[return-value]
    return file
