"""Encoders on OpenVINO against torch, which other tests compare with the references."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from scipy.stats import kendalltau
from transformers import AutoTokenizer

from models import embedded
from models.engines import int8, openvino_engine
from models.registry import load
from models.types import ModelLoadError, ModelSpec, Scorer
from tests.models.checkpoints import tiny_bert_cross_encoder, tiny_xlmr_cross_encoder
from tests.models.decoder_checkpoints import qwen3
from tests.models.encoder_checkpoints import bert_encoder, folder, stanford_colbert
from tests.models.families.test_cross_encoder_architectures import KINDS as ARCHITECTURES
from tests.models.families.test_cross_encoder_architectures import save_architecture

QUERY = "what do pandas eat?"
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


def _both(path: str, **options: object) -> tuple[Scorer, Scorer]:
    torch_one = load(ModelSpec("m", source=path, dtype="float32"))
    return torch_one, load(ModelSpec("m", source=path, backend="openvino", **options))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", MAKERS)
def test_scores_equal_those_of_torch(tmp_path: Path, kind: str) -> None:
    expected, found = _both(str(MAKERS[kind](tmp_path)), dtype="float32")
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
    exact, rough = _both("embedded", dtype="bfloat16")
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


def test_int8_ranks_nearly_as_fp32_on_the_real_weights_and_prints_nothing(
    capfd: pytest.CaptureFixture[str],
) -> None:
    nouns = ("pandas", "ships", "violins", "the mayor", "glaciers", "trains")
    texts = [f"{a} and {b}, or {c}" for a in nouns for b in nouns for c in ("snow", "fish")]
    exact, rough = _both("embedded", dtype="int8")
    assert capfd.readouterr().out == ""
    assert (rough.info.backend, rough.info.dtype) == ("openvino", "int8")
    logits = [[s.logit for s in one.score(QUERY, texts)] for one in (exact, rough)]
    assert kendalltau(*logits).statistic >= 0.9
    assert logits[0] != pytest.approx(logits[1], abs=1e-4)  # otherwise nothing was quantized
    assert logits[0] == pytest.approx(logits[1], abs=0.1)


def test_int8_is_refused_if_it_is_not_available(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelLoadError, match="it runs only encoders"):
        load(ModelSpec("m", source=str(qwen3(tmp_path)), dtype="int8", backend="auto"))
    with pytest.raises(ModelLoadError, match=r"only OpenVINO runs int8.*RERANKER_BACKEND=openvino"):
        load(ModelSpec("m", dtype="int8", backend="torch"))
    monkeypatch.setattr(int8, "installed", lambda: False)
    with pytest.raises(ModelLoadError, match=r"rerank-serve\[int8\]"):
        load(ModelSpec("m", dtype="int8", backend="auto"))


def test_calibration_rows_have_many_lengths() -> None:
    rows = int8.calibration_rows(AutoTokenizer.from_pretrained(embedded.folder()))
    assert len(rows) == int8.PAIRS
    assert len({len(row) for row in rows}) > 10
    assert max(map(len, rows)) == int8.MAX_TOKENS


@pytest.mark.slow
def test_nothing_is_reported_to_a_third_party() -> None:
    code = """
import sys
from models.engines import int8
from models.registry import load
from models.types import ModelSpec
int8.PAIRS = 4
load(ModelSpec("m", backend="openvino", dtype="int8"))
assert sys.modules["openvino_telemetry"] is None
from nncf.telemetry.wrapper import NNCFTelemetryStub, telemetry
assert isinstance(telemetry, NNCFTelemetryStub)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
