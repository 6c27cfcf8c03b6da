"""A provider's API key: read from its source, never shown."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from models.remote.errors import RemoteUnauthorized

_HIDDEN = "***"


class Secret:
    """A key from an environment variable or a file; a changed file is read again."""

    def __init__(
        self,
        model: str,
        *,
        env: str | None = None,
        file: str | None = None,
        required: bool = True,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._model = model
        self._env = env
        self._file = Path(file) if file else None
        self._required = required
        self._environ = environ
        self._read: tuple[tuple[int, int], str] | None = None
        self._known: set[str] = set()

    def __repr__(self) -> str:
        return f"Secret({self._file or self._env})"

    def get(self) -> str | None:
        """The key, or None if none is needed. Raises RemoteUnauthorized if it is missing."""
        value = self._from_file(self._file) if self._file else self._environ.get(self._env or "")
        value = (value or "").strip()
        if not value:
            if not self._required:
                return None
            if self._file:
                raise RemoteUnauthorized(f"{self._model}: the key file {self._file} is empty")
            raise RemoteUnauthorized(
                f"{self._model}: the environment variable {self._env} is unset or empty"
            )
        # The HTTP client's error for an invalid header value would show the key.
        if not (value.isascii() and value.isprintable()):
            raise RemoteUnauthorized(
                f"{self._model}: the key has characters that are not allowed in a header"
            )
        self._known |= {value, *(part for part in value.split(":") if len(part) > 5)}
        return value

    def redact(self, text: str) -> str:
        """The text with every key read so far, and its longer parts, replaced by ***."""
        for value in sorted(self._known, key=len, reverse=True):
            text = text.replace(value, _HIDDEN)
        return text

    def _from_file(self, path: Path) -> str:
        try:
            stat = path.stat()
            stamp = (stat.st_mtime_ns, stat.st_size)
            if self._read is None or self._read[0] != stamp:
                self._read = (stamp, path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8 text"
            raise RemoteUnauthorized(
                f"{self._model}: cannot read the key file {path}: {reason}"
            ) from None
        return self._read[1]
