"""Converted models kept on disk, so that later starts skip the conversion."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

logger = logging.getLogger("ray.serve")

# Beyond this size the least recently read conversions are deleted.
MAX_BYTES = 16 * 2**30
MODEL = "model.xml"
_UNFINISHED = ".new-"
# A conversion that is still unfinished after this time was left by a process that was killed.
_ABANDONED_S = 86_400.0


class Conversions:
    """A folder of converted models, each under a hash of everything that it depends on."""

    def __init__(self, folder: str | Path, max_bytes: int = MAX_BYTES) -> None:
        self._folder = Path(folder).expanduser()
        self._max_bytes = max_bytes

    @staticmethod
    def key(parts: Mapping[str, Any]) -> str:
        """The key of a conversion that depends on `parts`."""
        text = json.dumps(parts, sort_keys=True, default=str)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def read(self, key: str, load: Callable[[Path], Any]) -> Any:
        """Load a kept model with `load`; return None if there is none or it cannot be read."""
        place = self._folder / key
        if not (place / MODEL).is_file():
            return None
        try:
            model = load(place / MODEL)
            os.utime(place)
        except Exception as error:  # it is converted again
            logger.warning("cannot read the converted model in %s: %s", place, error)
            shutil.rmtree(place, ignore_errors=True)
            return None
        return model

    def write(self, key: str, save: Callable[[Path], None]) -> None:
        """Keep the model that `save` writes to the given path. Errors are only logged."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with self._aside() as place:
                save(place / MODEL)
                if not (self._folder / key).exists():
                    os.replace(place, self._folder / key)
            self._make_room(key)
        except Exception as error:
            logger.warning("cannot keep the converted model in %s: %s", self._folder, error)

    @contextmanager
    def _aside(self) -> Iterator[Path]:
        # Renamed when complete, because another process may write the same conversion.
        place = Path(tempfile.mkdtemp(dir=self._folder, prefix=_UNFINISHED))
        try:
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)

    def _make_room(self, newest: str) -> None:
        for place in self._folder.glob(f"{_UNFINISHED}*"):
            if time.time() - place.stat().st_mtime > _ABANDONED_S:
                shutil.rmtree(place, ignore_errors=True)
        kept = [place for place in self._folder.iterdir() if (place / MODEL).is_file()]
        kept.sort(key=lambda place: (place.name == newest, place.stat().st_mtime))
        sizes = {place: sum(f.stat().st_size for f in place.iterdir()) for place in kept}
        total = sum(sizes.values())
        for place in kept[:-1]:
            if total <= self._max_bytes:
                break
            shutil.rmtree(place, ignore_errors=True)
            total -= sizes[place]
