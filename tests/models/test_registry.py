"""Errors of loading say what was tried and what to do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from models import embedded
from models.registry import load
from models.types import ModelLoadError, ModelSpec
from tests.models.checkpoints import tiny_bert_cross_encoder


@pytest.mark.parametrize(
    ("source", "match"),
    [
        ("/no/such/folder", "RERANKER_LOCAL_MODEL_PATH"),
        ("no-such-org/no-such-model", r"no-such-org/no-such-model.*cache.*offline"),
    ],
)
def test_a_missing_model_is_reported(
    monkeypatch: pytest.MonkeyPatch, source: str, match: str
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelLoadError, match=match):
        load(ModelSpec("m", source=source))


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"config\.json"):
        load(ModelSpec("m", source=str(tmp_path)))


def test_a_checkpoint_without_safetensors_is_refused(tmp_path: Path) -> None:
    tiny_bert_cross_encoder(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "model.bin")
    with pytest.raises(ModelLoadError, match="safetensors"):
        load(ModelSpec("m", source=str(tmp_path)))


def test_an_unsupported_architecture_is_refused(tmp_path: Path) -> None:
    tiny_bert_cross_encoder(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["architectures"] = ["BertForMaskedLM"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelLoadError, match=r"BertForMaskedLM.*supported are"):
        load(ModelSpec("m", source=str(tmp_path)))


def test_an_absent_device_is_refused() -> None:
    with pytest.raises(ModelLoadError, match="'mps' is not available"):
        load(ModelSpec("m", device="mps"))


def test_a_missing_embedded_package_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "PACKAGE", "no_such_package")
    with pytest.raises(ModelLoadError, match=r"rerank-serve\[embedded\]"):
        embedded.folder()


def test_damaged_embedded_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "WEIGHTS_SHA256", "0" * 64)
    with pytest.raises(ModelLoadError, match="damaged"):
        embedded.folder()
