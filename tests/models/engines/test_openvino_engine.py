"""Encoders on OpenVINO against torch, which other tests compare with the references."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from scipy.stats import kendalltau

from models.engines import openvino_engine
from models.registry import load
from models.types import ModelLoadError, ModelSpec
from tests.models.checkpoints import tiny_bert_cross_encoder, tiny_xlmr_cross_encoder
from tests.models.decoder_checkpoints import qwen3
from tests.models.encoder_checkpoints import bert_encoder, folder, stanford_colbert
from tests.models.engines.both_engines import QUERY, torch_and_openvino
from tests.models.families.test_cross_encoder_architectures import KINDS as ARCHITECTURES
from tests.models.families.test_cross_encoder_architectures import save_architecture

TEXTS = [
    "Pandas eat bamboo.",
    "",
    "猫と魚と水",
    "вода и огонь",
    "مرحبا بالعالم",
    "far beyond the maximum length " * 60,
]


def _bi_encoder(path: Path) -> Path:
    return folder(bert_encoder(path / "encoder"), path / "folder")


MAKERS: dict[str, Callable[[Path], Path]] = {
    "bert": tiny_bert_cross_encoder,
    "xlm-r": tiny_xlmr_cross_encoder,
    **{
        name: lambda path, make=make: save_architecture(path, make)  # type: ignore[misc]
        for name, make in ARCHITECTURES.items()
        if name != "modernbert"
    },
    "colbert": stanford_colbert,
    "bi-encoder": _bi_encoder,
}


@pytest.mark.parametrize("kind", MAKERS)
def test_scores_equal_those_of_torch(tmp_path: Path, kind: str) -> None:
    expected, found = torch_and_openvino(str(MAKERS[kind](tmp_path)), dtype="float32")
    assert (found.info.backend, found.info.device, found.info.dtype) == (
        "openvino",
        "cpu",
        "float32",
    )
    for texts in (TEXTS, TEXTS[:1], [f"{text[:60]} {i}" for i in range(50) for text in TEXTS]):
        scores = [score.logit for score in expected.score(QUERY, texts)]
        logits = [score.logit for score in found.score(QUERY, texts)]
        assert logits == pytest.approx(scores, abs=1e-4)
    assert found.score(QUERY, []) == []


def test_bf16_ranks_as_fp32_on_the_real_weights() -> None:
    nouns = ("pandas", "ships", "violins", "the mayor", "glaciers", "trains")
    texts = [f"{a} and {b}, or {c}" for a in nouns for b in nouns for c in ("snow", "fish")]
    exact, rough = torch_and_openvino("embedded", dtype="bfloat16")
    logits = [[s.logit for s in one.score(QUERY, texts)] for one in (exact, rough)]
    assert kendalltau(*logits).statistic >= 0.99


def test_auto_chooses_openvino_only_for_encoders(tmp_path: Path) -> None:
    assert load(ModelSpec("m", backend="auto")).info.backend == "openvino"
    decoder = str(qwen3(tmp_path))
    assert load(ModelSpec("m", source=decoder, backend="auto")).info.backend == "torch"
    assert load(ModelSpec("m", backend="auto", dtype="float16")).info.backend == "torch"
    with pytest.raises(ModelLoadError, match="it runs only encoders"):
        load(ModelSpec("m", source=decoder, backend="openvino"))


def test_auto_chooses_torch_if_openvino_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_engine, "installed", lambda: False)
    assert load(ModelSpec("m", backend="auto")).info.backend == "torch"
    with pytest.raises(ModelLoadError, match=r"rerank-serve\[openvino\]"):
        load(ModelSpec("m", backend="openvino"))


def test_a_conversion_with_other_outputs_than_torch_is_not_used(tmp_path: Path) -> None:
    # If local attention reaches only padding, its softmax gives NaN.
    path = str(save_architecture(tmp_path, ARCHITECTURES["modernbert"]))
    scorer = load(ModelSpec("m", source=path, backend="auto"))
    assert scorer.info.backend == "torch"
    assert len(scorer.score(QUERY, TEXTS)) == len(TEXTS)
    with pytest.raises(ModelLoadError, match="differ from torch's"):
        load(ModelSpec("m", source=path, backend="openvino"))


def test_auto_falls_back_to_torch_if_the_conversion_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **options: object) -> None:
        raise RuntimeError("no such operation")

    monkeypatch.setattr(openvino_engine, "_Positional", fail)
    assert load(ModelSpec("m", backend="auto")).info.backend == "torch"
    with pytest.raises(ModelLoadError, match="no such operation; try RERANKER_BACKEND=torch"):
        load(ModelSpec("m", backend="openvino"))


def test_openvino_runs_with_a_given_number_of_threads() -> None:
    scorer = load(ModelSpec("m", backend="openvino", threads=1))
    assert scorer.score(QUERY, ["bamboo"])[0].logit > 0
    assert torch.get_num_threads() >= 1
