"""The keys in force: those of the environment, and those of a file that may change."""

from __future__ import annotations

import logging
import os
import stat
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from serve_app.access.keys import Key, KeysError, KeySet, parse_entries

logger = logging.getLogger("ray.serve")

CHECK_INTERVAL_S = 1.0
MAX_FILE_BYTES = 2**20

_Signature = tuple[int, int, int, int]


class KeyRing:
    """Keys from settings and from a file, which is read again when it has changed."""

    def __init__(
        self,
        entries: Sequence[str] = (),
        path: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises KeysError where the file can't be read, is wrong, or holds no key."""
        self._fixed = parse_entries(entries, "env")
        self._path = Path(path) if path is not None else None
        self._clock = clock
        self._checked_at = clock()
        self._seen = self._signature()
        self._keys = self._read()
        if not len(self._keys):
            raise KeysError("there is no key; `rerank key` makes one")

    def keys(self) -> KeySet:
        """The keys as they are now; looks at the file at most once a second."""
        now = self._clock()
        if self._path is not None and now - self._checked_at >= CHECK_INTERVAL_S:
            self._checked_at = now
            self._refresh()
        return self._keys

    def _refresh(self) -> None:
        signature = self._signature()
        if signature == self._seen:
            return
        # Remembered also where reading fails, so that a broken file is told of once.
        self._seen = signature
        try:
            keys = self._read()
        except KeysError as error:
            logger.error("the API keys stay as they were: %s", error)
            return
        self._keys = keys
        logger.warning("API keys read again: %d in force", len(keys))

    def _signature(self) -> _Signature | None:
        if self._path is None:
            return None
        try:
            found = self._path.stat()
        except OSError:
            return None
        return (found.st_mtime_ns, found.st_ino, found.st_size, found.st_mode)

    def _read(self) -> KeySet:
        if self._path is None:
            return KeySet(self._fixed)
        return KeySet((*self._fixed, *read_file(self._path)))


def _not_blocking(path: str, flags: int) -> int:
    # To open a pipe that nobody writes to would stop the event loop.
    return os.open(path, flags | os.O_NONBLOCK)


def read_file(path: Path) -> tuple[Key, ...]:
    """The keys of a file. Raises KeysError."""
    try:
        with open(path, "rb", opener=_not_blocking) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise KeysError(f"{path} is not a regular file")
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise KeysError(f"{path} can't be read: {error.strerror}") from None
    if len(content) > MAX_FILE_BYTES:
        raise KeysError(f"{path} has more than {MAX_FILE_BYTES} bytes")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise KeysError(f"{path} is not UTF-8 text") from None
    try:
        # Not splitlines(): a form feed inside a key would make two lines of it.
        return parse_entries(text.replace("\r\n", "\n").split("\n"), "line")
    except KeysError as error:
        raise KeysError(f"{path}: {error}") from None
