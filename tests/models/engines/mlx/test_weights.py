"""Weights in 8 and 4 bits on MLX: quantized when loading, or read from an MLX folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten
from scipy.stats import kendalltau

from models import hub
from models.checkpoint import Checkpoint
from models.engines.base import EngineRequest, Output
from models.engines.mlx.engine import MLXEngine
from models.registry import load
from models.types import ModelLoadError, ModelSpec, Scorer
from tests.models.checkpoints import edit_config, tiny_bert_cross_encoder
from tests.models.decoder_checkpoints import gemma, qwen3

QUERY = "what do pandas eat?"
TEXTS = ["Pandas eat bamboo.", "", "猫と魚と水", "вода и огонь", "a long text of words " * 30]
NOUNS = ("pandas", "ships", "violins", "the mayor", "glaciers", "trains")
MANY = [f"{a} and {b}, or {c}" for a in NOUNS for b in NOUNS for c in ("snow", "fish")]


def _load(source: Path | str, dtype: str = "auto", backend: str = "mlx") -> Scorer:
    return load(ModelSpec("m", source=str(source), backend=backend, dtype=dtype))  # type: ignore[arg-type]


def _logits(scorer: Scorer, texts: list[str]) -> list[float]:
    return [score.logit for score in scorer.score(QUERY, texts)]


def _module(source: Path | str, dtype: str, output: Output = "last_hidden_state") -> nn.Module:
    spec = ModelSpec("m", source=str(source), backend="mlx", dtype=dtype)  # type: ignore[arg-type]
    checkpoint = Checkpoint(spec, hub.locate(spec))
    return MLXEngine(EngineRequest(checkpoint, lambda: None, output))._module


def _bytes(module: nn.Module) -> int:
    return sum(int(weight.nbytes) for _, weight in tree_flatten(module.parameters()))


@pytest.mark.parametrize(
    ("dtype", "error", "tau", "share"), [("8bit", 0.005, 0.99, 0.3), ("4bit", 0.05, 0.9, 0.27)]
)
def test_the_real_weights_rank_as_in_float32(
    dtype: str, error: float, tau: float, share: float
) -> None:
    exact = _logits(_load("embedded", "float32", "torch"), MANY)
    scorer = _load("embedded", dtype)
    assert (scorer.info.backend, scorer.info.dtype) == ("mlx", dtype)
    rough = _logits(scorer, MANY)
    assert rough == pytest.approx(exact, abs=error)
    assert kendalltau(exact, rough).statistic >= tau
    assert (
        max(range(len(MANY)), key=rough.__getitem__)
        in sorted(range(len(MANY)), key=exact.__getitem__)[-3:]
    )
    assert _bytes(_module("embedded", dtype)) < share * _bytes(_module("embedded", "float32"))


@pytest.mark.parametrize(("dtype", "bits"), [("8bit", 8), ("4bit", 4)])
def test_layers_are_quantized_and_the_head_is_not(tmp_path: Path, dtype: str, bits: int) -> None:
    module = _module(tiny_bert_cross_encoder(tmp_path), dtype, "logits")
    layers = dict(module.named_modules())
    quantized = {name: layer for name, layer in layers.items() if hasattr(layer, "scales")}
    words = quantized.pop("embeddings.word_embeddings")
    assert (words.bits, words.weight.dtype) == (8, mx.uint32)
    # Query, key, value and three dense layers.
    assert len(quantized) == 2 * 6
    for layer in quantized.values():
        assert isinstance(layer, nn.QuantizedLinear)
        assert (layer.bits, layer.weight.dtype) == (bits, mx.uint32)
    assert type(layers["classifier"]) is type(layers["pooler.dense"]) is nn.Linear
    assert type(layers["embeddings.position_embeddings"]) is nn.Embedding


@pytest.mark.parametrize("make", [qwen3, gemma])
def test_decoders_in_8_bits_score_nearly_as_in_float32(
    tmp_path: Path, make: Callable[..., Path]
) -> None:
    path = make(tmp_path)
    exact, rough = (_logits(_load(path, dtype), TEXTS) for dtype in ("float32", "8bit"))
    assert rough == pytest.approx(exact, abs=0.1)
    assert rough != exact


def _quantized_folder(path: Path, bits: int, **entries: Any) -> tuple[Path, Path]:
    """A Qwen3-Reranker as mlx-lm converts it, and one with the same numbers in float32.

    `entries` are what the config says of single layers, `/` for the dots of their names; False
    is a layer that is left as it is.
    """
    path, plain = qwen3(path / "quantized"), qwen3(path / "plain")
    own = {name.replace("/", "."): entry for name, entry in entries.items()}
    packed: dict[str, mx.array] = {}
    numbers: dict[str, mx.array] = {}
    for name, weight in mx.load(str(path / "model.safetensors")).items():
        layer = name.removesuffix(".weight")
        entry = own.get(layer, {"group_size": 32, "bits": bits})
        if weight.ndim != 2 or entry is False:
            packed[name] = numbers[name] = weight
            continue
        arrays = mx.quantize(weight, **entry)  # mxfp4 has no biases
        kinds = ("weight", "scales", "biases")
        packed |= {f"{layer}.{kind}": array for kind, array in zip(kinds, arrays, strict=False)}
        numbers[name] = mx.dequantize(*arrays, **entry).astype(mx.float32)
    mx.save_safetensors(str(path / "model.safetensors"), packed, {"format": "mlx"})
    mx.save_safetensors(str(plain / "model.safetensors"), numbers, {"format": "pt"})
    given = {"group_size": 32, "bits": bits, **own}
    # mlx-lm writes the entry twice.
    edit_config(path, quantization=given, quantization_config=given)
    return path, plain


@pytest.mark.parametrize(
    ("bits", "entries"),
    [
        (4, {}),
        (8, {}),
        (6, {}),
        (4, {"lm_head": {"group_size": 32, "bits": 8}, "model/layers/0/mlp/down_proj": False}),
        (4, {"lm_head": {"group_size": 32, "bits": 4, "mode": "mxfp4"}}),
        (4, {"model/layers/1/mlp/up_proj": {"group_size": 32, "bits": 4, "mode": "mxfp4"}}),
    ],
)
def test_a_folder_quantized_by_mlx_scores_as_its_float32_numbers(
    tmp_path: Path, bits: int, entries: dict[str, Any]
) -> None:
    path, plain = _quantized_folder(tmp_path, bits, **entries)
    expected = _logits(_load(plain, "float32", "torch"), TEXTS)
    for dtype in ("auto", "float32"):
        scorer = _load(path, dtype)
        assert scorer.info.dtype == f"{bits}bit"
        assert _logits(scorer, TEXTS) == pytest.approx(expected, abs=1e-4)
    spread = max(expected) - min(expected)
    assert _logits(_load(path, "bfloat16"), TEXTS) == pytest.approx(expected, abs=0.1 * spread)


def test_only_mlx_reads_a_folder_quantized_by_mlx(tmp_path: Path) -> None:
    path, _ = _quantized_folder(tmp_path, 4)
    assert _load(path, "auto", "auto").info.backend == "mlx"
    assert _load(path, "4bit").info.dtype == "4bit"
    with pytest.raises(ModelLoadError, match="its weights have 4 bits already"):
        _load(path, "8bit")
    for backend in ("torch", "openvino"):
        with pytest.raises(ModelLoadError, match=r"quantized by MLX.*RERANKER_BACKEND=mlx"):
            _load(path, "auto", backend)
    edit_config(path, quantization={"group_size": 32, "bits": 8})
    with pytest.raises(ModelLoadError, match=r"can't run on MLX.*according to its config"):
        _load(path)


@pytest.mark.parametrize("dtype", ["8bit", "4bit"])
def test_other_engines_refuse_8_and_4_bits(dtype: str) -> None:
    for backend in ("auto", "torch", "openvino"):
        with pytest.raises(ModelLoadError, match=f"only MLX runs {dtype}") as refused:
            _load("embedded", dtype, backend)
        assert "set RERANKER_BACKEND=mlx" in str(refused.value)


def test_widths_that_no_group_size_divides_are_refused(tmp_path: Path) -> None:
    path = qwen3(
        tmp_path, hidden_size=48, intermediate_size=80, num_attention_heads=2, num_key_value_heads=1
    )
    assert json.loads((path / "config.json").read_text())["hidden_size"] == 48
    with pytest.raises(ModelLoadError, match="no layer's width is a multiple of 32"):
        _load(path, "4bit")
    assert np.isfinite(_logits(_load(path), TEXTS)).all()
