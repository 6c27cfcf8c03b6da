"""Weights and activations in int8 on OpenVINO."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from scipy.stats import kendalltau
from transformers import AutoTokenizer

from models import embedded
from models.engines import int8
from models.registry import load
from models.types import ModelLoadError, ModelSpec
from tests.models.decoder_checkpoints import qwen3
from tests.models.engines.both_engines import QUERY, torch_and_openvino


def test_int8_ranks_nearly_as_fp32_on_the_real_weights_and_prints_nothing(
    capfd: pytest.CaptureFixture[str],
) -> None:
    nouns = ("pandas", "ships", "violins", "the mayor", "glaciers", "trains")
    texts = [f"{a} and {b}, or {c}" for a in nouns for b in nouns for c in ("snow", "fish")]
    exact, rough = torch_and_openvino("embedded", dtype="int8")
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
