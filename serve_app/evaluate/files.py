"""Read text files, plain or gzipped, line by line, with line numbers for errors."""

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
    """Stream the number (from 1) and text of each line that is not blank.

    Raises EvalError if the file cannot be read or is not UTF-8.
    """
    number = 0
    try:
        with path.open("rb") as packed, _decompressed(packed) as file:
            for number, raw in enumerate(file, 1):
                text = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
                if text.strip():
                    yield number, text
    except UnicodeDecodeError as error:
        raise line_error(path, number, f"not UTF-8 ({error.reason})") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise EvalError(f"{path} is a corrupt gzip file: {error}") from None
    except OSError as error:
        raise EvalError(f"cannot read {path}: {error.strerror or error}") from None


def objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Stream the number and object of each line of a JSONL file. Raises EvalError."""
    for number, text in lines(path):
        yield number, parse(path, number, text)


def parse(path: Path, number: int, text: str) -> dict[str, Any]:
    """Parse a line's JSON object. Raises EvalError, naming the line."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise line_error(path, number, f"invalid JSON ({error}): {shorten(text)}") from None
    if not isinstance(value, dict):
        raise line_error(path, number, f"expected a JSON object, got {shorten(text)}")
    return value


def line_error(path: Path, number: int, problem: str) -> EvalError:
    """Create an error that names the file and line."""
    return EvalError(f"{path}:{number}: {problem}")


def shorten(text: str) -> str:
    """Quote the beginning of a text, for a message."""
    return repr(text if len(text) <= SHOWN_CHARS else text[:SHOWN_CHARS] + "…")


def _decompressed(file: BufferedReader) -> IO[bytes]:
    # Detected by content, since the file may have been renamed.
    if file.peek(2)[:2] == GZIP:
        return gzip.GzipFile(fileobj=file)  # type: ignore[return-value]
    return file
