"""A model replica whose scorer keeps a record of what it forwards, and hangs when it is told to."""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Sequence
from pathlib import Path

from models.engine_stats import EngineStats
from models.types import (
    DEFAULTS,
    Document,
    Encoded,
    ModelInfo,
    ModelSpec,
    Score,
    ScoreOptions,
    TokenRow,
)
from serve_app.deployments.replica import ModelReplica

SECONDS_PER_DOCUMENT = 0.003
INFO = ModelInfo(
    name="recorded",
    source="test",
    revision="1",
    family="test",
    backend="test",
    device="cpu",
    dtype="float32",
    max_length=64,
    activation="identity",
    normalize_text=False,
    token_budget=256,
)


def folder() -> Path:
    """Where the test and the replicas meet; also on a node that starts later."""
    return Path(os.environ["FAULTS_FOLDER"])


def expected(query: str, document: str) -> float:
    return float(zlib.crc32(f"{query}|{document}".encode()) % 10_000)


class Recorder:
    """Scores that anybody can work out; every document forwarded leaves a line, with the time."""

    def __init__(self) -> None:
        self.info = INFO
        self.engine_stats = EngineStats()
        (folder() / f"replica-{os.getpid()}").touch()
        self._lines = (folder() / f"forwarded-{os.getpid()}").open("a", buffering=1)

    def encode(
        self, query: str, documents: Sequence[Document], options: ScoreOptions = DEFAULTS
    ) -> Encoded:
        texts = [str(document) for document in documents]
        row = TokenRow((1,) * 8)
        return Encoded(
            [row] * len(texts), [8] * len(texts), [False] * len(texts), {"of": (query, texts)}
        )

    def forward(self, batch: Sequence[Encoded]) -> list[list[Score]]:
        self._hang()
        asked = [encoded.extra["of"] for encoded in batch]
        for _, texts in asked:
            self._lines.writelines(f"{len(batch)} {time.time():.3f} {text}\n" for text in texts)
        time.sleep(SECONDS_PER_DOCUMENT * sum(len(encoded.rows) for encoded in batch))
        return [[Score(expected(query, text), 8) for text in texts] for query, texts in asked]

    def _hang(self) -> None:
        try:
            (folder() / "hang").unlink()  # one replica alone finds it
        except FileNotFoundError:
            return
        time.sleep(3600)

    def score(
        self, query: str, documents: Sequence[Document], options: ScoreOptions = DEFAULTS
    ) -> list[Score]:
        return self.forward([self.encode(query, documents, options)])[0]

    def find_budget(self) -> None:
        """The budget is given."""

    def representation_stats(self) -> dict[str, int]:
        return {}


class RecordedReplica(ModelReplica):
    """The real replica around that scorer."""

    @staticmethod
    def load(spec: ModelSpec, warmup: bool, earlier: ModelInfo | None) -> Recorder:
        return Recorder()
