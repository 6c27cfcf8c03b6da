"""The keys in force: those from the settings and those from a file that may change."""

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

_Signature = tuple[int, ...]


class KeyRing:
    """Keys from the settings and from a file, which is reloaded when it changes."""

    def __init__(
        self,
        entries: Sequence[str] = (),
        path: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises KeysError if the file is unreadable or invalid, or if there is no key at all."""
        self._fixed = parse_entries(entries, "env")
        self._path = Path(path) if path is not None else None
        self._clock = clock
        self._checked_at = clock()
        self._seen = self._signature()
        self._problem = ""
        self._keys = self._read()
        if not len(self._keys):
            raise KeysError("no key found; create one with `rerank key`")

    def keys(self) -> KeySet:
        """The current keys; checks the file for changes at most once a second."""
        now = self._clock()
        if self._path is not None and now - self._checked_at >= CHECK_INTERVAL_S:
            self._checked_at = now
            self._refresh()
        return self._keys

    def _refresh(self) -> None:
        signature = self._signature()
        if signature == self._seen:
            return
        try:
            keys = self._read()
        except KeysError as error:
            # Read again next time: the failure may be temporary (no file descriptor left).
            if str(error) != self._problem:
                logger.error("failed to reload the API keys, keeping the current ones: %s", error)
            self._problem = str(error)
            return
        self._seen, self._keys, self._problem = signature, keys, ""
        logger.warning("reloaded the API keys: %d in force", len(keys))

    def _signature(self) -> _Signature | None:
        if self._path is None:
            return None
        try:
            found = self._path.stat()
        except OSError:
            return None
        return (
            *(found.st_mtime_ns, found.st_ctime_ns),
            *(found.st_ino, found.st_size, found.st_mode),
        )

    def _read(self) -> KeySet:
        if self._path is None:
            return KeySet(self._fixed)
        return KeySet((*self._fixed, *read_file(self._path)))


def _not_blocking(path: str, flags: int) -> int:
    # Opening a pipe without a writer would block the event loop.
    return os.open(path, flags | os.O_NONBLOCK)


def read_file(path: Path) -> tuple[Key, ...]:
    """The keys of a file. Raises KeysError."""
    try:
        with open(path, "rb", opener=_not_blocking) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise KeysError(f"{path} is not a regular file")
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise KeysError(f"cannot read {path}: {error.strerror}") from None
    if len(content) > MAX_FILE_BYTES:
        raise KeysError(f"{path} is larger than {MAX_FILE_BYTES} bytes")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise KeysError(f"{path} is not UTF-8 text") from None
    try:
        # Not splitlines(): it would split a key that contains a form feed.
        return parse_entries(text.replace("\r\n", "\n").split("\n"), "line")
    except KeysError as error:
        raise KeysError(f"{path}: {error}") from None
