"""The table of engines: which one runs a checkpoint, and the errors if none can."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any, cast

import pytest

from models import engines
from models.checkpoint import Checkpoint
from models.engines import Engine, engine_for
from models.engines.base import EngineError, EngineRequest
from models.types import ModelLoadError, ModelSpec


class FakeEngine:
    """An engine's module; `build` returns the request for inspection."""

    def __init__(
        self,
        title: str,
        *,
        needed: str | None = None,
        reason: str | None = None,
        error: Exception | None = None,
    ) -> None:
        self.TITLE = title
        self._needed, self._reason, self._error = needed, reason, error

    def needed_for(self, request: EngineRequest) -> str | None:
        return self._needed

    def why_not(self, request: EngineRequest) -> str | None:
        return self._reason

    def build(self, request: EngineRequest) -> Engine:
        if self._error is not None:
            raise self._error
        return cast(Engine, (self.TITLE, request))


def _choose(backend: str, monkeypatch: pytest.MonkeyPatch, *fakes: FakeEngine) -> Any:
    names = ("mlx", "openvino", "torch")
    monkeypatch.setattr(engines, "ENGINES", dict(zip(names, fakes, strict=True)))
    checkpoint = SimpleNamespace(
        spec=ModelSpec("m", source="folder", backend=backend),  # type: ignore[arg-type]
        tokenizer=SimpleNamespace(pad_token_id=None, model_input_names=["token_type_ids"]),
        config=SimpleNamespace(pad_token_id=3, max_position_embeddings=64, model_type="bert"),
    )
    return engine_for(cast(Checkpoint, checkpoint), object, "logits", portable=True)


A, B, C = FakeEngine("A"), FakeEngine("B"), FakeEngine("C")
NOT_HERE = FakeEngine("A", reason="it is not installed")
BROKEN = FakeEngine("A", error=EngineError("no such operation"))


def test_auto_takes_the_first_engine_that_can_run_the_checkpoint(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert _choose("auto", monkeypatch, A, B, C)[0] == "A"
    assert _choose("auto", monkeypatch, NOT_HERE, B, C)[0] == "B"
    assert not caplog.records


def test_auto_falls_back_with_one_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert _choose("auto", monkeypatch, BROKEN, B, C)[0] == "B"
    assert caplog.messages == ["m falls back from A: no such operation"]


def test_a_named_engine_is_the_only_one_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _choose("torch", monkeypatch, A, B, C)[0] == "C"
    with pytest.raises(ModelLoadError, match=r"^'folder' can't run on A: it is not installed$"):
        _choose("mlx", monkeypatch, NOT_HERE, B, C)
    with pytest.raises(ModelLoadError, match=r"no such operation; try RERANKER_BACKEND=torch$"):
        _choose("mlx", monkeypatch, BROKEN, B, C)


def test_errors_of_the_checkpoint_are_not_taken_for_the_engines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    unfinished = FakeEngine("A", error=ModelLoadError("it lacks weights"))
    for backend in ("auto", "mlx"):
        with pytest.raises(ModelLoadError, match=r"^it lacks weights$"):
            _choose(backend, monkeypatch, unfinished, B, C)


def test_an_engine_that_is_needed_is_the_only_one_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = FakeEngine("B", needed="only B runs int8")
    assert _choose("auto", monkeypatch, A, needed, C)[0] == "B"
    assert _choose("openvino", monkeypatch, A, needed, C)[0] == "B"
    with pytest.raises(ModelLoadError, match=r"can't run on C: only B runs int8; set .*=openvino$"):
        _choose("torch", monkeypatch, A, needed, C)
    missing = FakeEngine("B", needed="only B runs int8", reason="it is not installed")
    with pytest.raises(ModelLoadError, match=r"on B: it is not installed \(only B runs int8\)$"):
        _choose("auto", monkeypatch, A, missing, C)


def test_the_request_describes_the_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    _, request = _choose("auto", monkeypatch, A, B, C)
    assert (request.output, request.portable, request.typed) == ("logits", True, True)
    assert (request.pad_token_id, request.longest) == (3, 64)
    assert request.make() is request.make()  # the weights are read once
