"""A model replica whose scorer records what it runs, and hangs on demand."""

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
    """The folder shared by the test and the replicas, on all nodes."""
    return Path(os.environ["FAULTS_FOLDER"])


def expected(query: str, document: str) -> float:
    return float(zlib.crc32(f"{query}|{document}".encode()) % 10_000)


class Recorder:
    """Computes reproducible scores, and writes a line with the time for every document."""

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
            (folder() / "hang").unlink()  # only one replica succeeds
        except FileNotFoundError:
            return
        time.sleep(3600)

    def score(
        self, query: str, documents: Sequence[Document], options: ScoreOptions = DEFAULTS
    ) -> list[Score]:
        return self.forward([self.encode(query, documents, options)])[0]

    def find_budget(self) -> None:
        """Do nothing: the budget is fixed."""

    def representation_stats(self) -> dict[str, int]:
        return {}


class RecordedReplica(ModelReplica):
    """The real replica with that scorer."""

    @staticmethod
    def load(spec: ModelSpec, warmup: bool, earlier: ModelInfo | None) -> Recorder:
        return Recorder()
