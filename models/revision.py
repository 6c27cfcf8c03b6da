"""The revision of a model's folder: a hash of its content, so that no other model can have it.

Names, sizes and times are not enough: images are built with the same times for all files, and two
models of one architecture have the same sizes.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path

from models.hub import IGNORED

logger = logging.getLogger("ray.serve")

_HASHED = frozenset({".jinja", ".json", ".model", ".safetensors", ".txt"})
# Smaller files are hashed at every start.
_LARGE = 2**20
# A file that was changed more recently may change again without its times showing it.
_SETTLED_NS = 2 * 10**9
# Folders whose hashes are kept; beyond that, those of the oldest are deleted.
_MAX_KEPT = 256

# What changes whenever a file's content does, and cannot be set by a program: its inode, size,
# time of modification and time of change.
Stat = tuple[int, int, int, int]


def cache_folder() -> Path:
    """The service's folder in the user's cache folder, by the XDG convention.

    Raises RuntimeError if there is no home folder.
    """
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "rerank-serve"


def folder_revision(root: Path, *, code: bool = False) -> str:
    """A hash of the folder's weights, tokenizer and configuration; with `code`, of its code too.

    The hash of a large file is kept in the cache folder and computed again when the file has
    changed. If nothing can be kept there, it is computed each time.
    """
    kept = _KeptHashes(root)
    digest = hashlib.sha256()
    for name, file in _files(root, code):
        digest.update(f"{name}\0{kept.hash_of(name, file)}\n".encode())
    kept.save()
    return digest.hexdigest()[:16]


def _files(root: Path, code: bool) -> Iterator[tuple[str, Path]]:
    suffixes = _HASHED | {".py"} if code else _HASHED
    for file in sorted(root.rglob("*")):
        name = file.relative_to(root).as_posix()
        ignored = any(fnmatch(name, pattern) for pattern in IGNORED)
        if file.suffix in suffixes and not ignored and file.is_file():
            yield name, file


class _KeptHashes:
    """The hashes of a folder's large files, by the files' stat."""

    def __init__(self, root: Path) -> None:
        self._place: Path | None = None
        self._known: dict[str, tuple[Stat, str]] = {}
        self._found: dict[str, tuple[Stat, str]] = {}
        with suppress(RuntimeError):  # no home folder
            name = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:32]
            self._place = cache_folder() / "revisions" / f"{name}.json"
            self._known = _read(self._place)

    def hash_of(self, name: str, file: Path) -> str:
        before = _stat(file)
        if before[1] < _LARGE:
            return _hash(file)
        known = self._known.get(name)
        if known is not None and known[0] == before and _is_reliable(before):
            self._found[name] = known
            return known[1]
        found = _hash(file)
        if _stat(file) == before and _is_reliable(before):
            self._found[name] = (before, found)
        return found

    def save(self) -> None:
        """Keep the hashes for the next start; an error is only logged."""
        if self._place is None or self._found == self._known:
            return
        try:
            self._place.parent.mkdir(parents=True, exist_ok=True)
            handle, aside = tempfile.mkstemp(dir=self._place.parent, prefix=".new-")
            try:
                with os.fdopen(handle, "w") as file:
                    json.dump(self._found, file)
                os.replace(aside, self._place)
            except BaseException:
                Path(aside).unlink(missing_ok=True)
                raise
            for old in _newest_first(self._place.parent)[_MAX_KEPT:]:
                old.unlink(missing_ok=True)
        except OSError as error:
            logger.info("the weights will be hashed again at the next start: %s", error)


def _read(place: Path) -> dict[str, tuple[Stat, str]]:
    try:
        content = json.loads(place.read_text())
        return {
            str(name): ((int(inode), int(size), int(modified), int(changed)), str(found))
            for name, ((inode, size, modified, changed), found) in content.items()
        }
    except (OSError, ValueError, TypeError, AttributeError):  # missing or damaged
        return {}


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.iterdir(), key=lambda file: file.lstat().st_mtime, reverse=True)


def _stat(file: Path) -> Stat:
    found = file.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _is_reliable(stat: Stat) -> bool:
    """Whether a change of the file would show in its stat.

    A time of change in whole seconds comes from an image or a file system without finer times: a
    second image may have the same one.
    """
    changed = stat[3]
    return changed % 10**9 != 0 and time.time_ns() - changed > _SETTLED_NS


def _hash(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
