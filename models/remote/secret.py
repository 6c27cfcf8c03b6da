"""A provider's key: read where it is kept, shown nowhere."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from models.remote.errors import RemoteUnauthorized

_HIDDEN = "***"


class Secret:
    """The key in an environment variable or a file; the file is read again when it changes."""

    def __init__(
        self,
        who: str,
        *,
        env: str | None = None,
        file: str | None = None,
        required: bool = True,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._who = who
        self._env = env
        self._file = Path(file) if file else None
        self._required = required
        self._environ = environ
        self._read: tuple[tuple[int, int], str] | None = None
        self._seen: set[str] = set()

    def __repr__(self) -> str:
        return f"Secret({self._file or self._env})"

    def get(self) -> str | None:
        """The key; None where none is needed. Raises RemoteUnauthorized where it is missing."""
        value = self._from_file(self._file) if self._file else self._environ.get(self._env or "")
        value = (value or "").strip()
        if not value:
            if not self._required:
                return None
            where = f"the file {self._file}" if self._file else f"the environment's {self._env}"
            raise RemoteUnauthorized(f"{self._who}: there is no key in {where}")
        # A key that can't stand in a header would be shown by the error that says so.
        if not (value.isascii() and value.isprintable()):
            raise RemoteUnauthorized(f"{self._who}: the key has characters that no header takes")
        self._seen |= {value, *(part for part in value.split(":") if len(part) > 5)}
        return value

    def redact(self, text: str) -> str:
        """The text with every key that was read here blotted out."""
        for value in sorted(self._seen, key=len, reverse=True):
            text = text.replace(value, _HIDDEN)
        return text

    def _from_file(self, path: Path) -> str:
        try:
            stat = path.stat()
            stamp = (stat.st_mtime_ns, stat.st_size)
            if self._read is None or self._read[0] != stamp:
                self._read = (stamp, path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8"
            raise RemoteUnauthorized(
                f"{self._who}: the key file {path} can't be read: {reason}"
            ) from None
        return self._read[1]
