"""A provider's API key: read from its source, never shown."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from models.remote.errors import RemoteUnauthorized

_HIDDEN = "***"
# Keys that are redacted: the current one and its predecessors, which calls may still use.
_MAX_KNOWN = 16


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
        self._read: tuple[tuple[int, ...], str] | None = None
        self._known: dict[str, None] = {}  # the latest last

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
        if value not in self._known:
            self._known[value] = None
            while len(self._known) > _MAX_KNOWN:
                del self._known[next(iter(self._known))]
        return value

    def redact(self, text: str) -> str:
        """The text with the latest keys, and their longer parts, replaced by ***."""
        parts = {part for value in self._known for part in value.split(":") if len(part) > 5}
        for value in sorted(parts.union(self._known), key=len, reverse=True):
            text = text.replace(value, _HIDDEN)
        return text

    def _from_file(self, path: Path) -> str:
        try:
            stat = path.stat()
            # A new key may have the old one's length and, from an image, its time.
            stamp = (stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
            if self._read is None or self._read[0] != stamp:
                self._read = (stamp, path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8 text"
            raise RemoteUnauthorized(
                f"{self._model}: cannot read the key file {path}: {reason}"
            ) from None
        return self._read[1]
