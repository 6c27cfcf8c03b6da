"""MLX (its CPU build on Linux) against the references, and against torch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import CrossEncoder as Reference
from transformers import AutoModel

from models import hub
from models.checkpoint import Checkpoint
from models.engines import mlx
from models.engines.base import EngineRequest, Output
from models.engines.mlx.decoder import Decoder
from models.engines.mlx.engine import MLXEngine
from models.registry import load
from models.types import ModelLoadError, ModelSpec, Scorer, TokenRow, relevance
from tests.models.checkpoints import (
    edit_config,
    tiny_bert_cross_encoder,
    tiny_bert_without_head,
    tiny_xlmr_cross_encoder,
)
from tests.models.decoder_checkpoints import qwen3
from tests.models.encoder_checkpoints import (
    bert_encoder,
    folder,
    pylate_colbert,
    qwen3_encoder,
    stanford_colbert,
)
from tests.models.families.test_causal import KINDS as DECODERS
from tests.models.families.test_causal import MAX_LENGTH
from tests.models.families.test_causal import TEXTS as DECODER_TEXTS
from tests.models.families.test_cross_encoder_architectures import KINDS as ARCHITECTURES
from tests.models.families.test_cross_encoder_architectures import QUERIES, TEXTS, save_architecture
from tests.models.families.test_cross_encoder_architectures import _roberta as roberta
from tests.models.families.test_listwise import _make as jina
from tests.models.t5_checkpoints import t5

QUERY = QUERIES[0]


def _modernbert(**more: Any) -> Callable[[Path], Path]:
    return lambda path: save_architecture(path, ARCHITECTURES["modernbert"], **more)


CROSS_ENCODERS: dict[str, Callable[[Path], Path]] = {
    "bert": tiny_bert_cross_encoder,
    "xlm-r": tiny_xlmr_cross_encoder,
    "roberta": roberta,
    # Rows of up to 96 tokens; local attention reaches four tokens to each side.
    "modernbert": _modernbert(),
    "modernbert-cls": _modernbert(classifier_pooling="cls", norm_bias=True, attention_bias=True),
}
# Families that other tests compare with a reference on torch.
OTHERS: dict[str, Callable[[Path], str]] = {
    "embedded": lambda path: "embedded",
    "bi-encoder": lambda path: str(folder(bert_encoder(path / "encoder"), path / "folder")),
    "qwen3-embedding": lambda path: str(folder(qwen3_encoder(path / "encoder"), path / "folder")),
    "colbert": lambda path: str(stanford_colbert(path)),
    "pylate": lambda path: str(pylate_colbert(path)),
    "jina-v3": lambda path: str(jina(path)),
    "qwen3-classifier": lambda path: str(qwen3(path, classifier=True)),
    "qwen3-tied": lambda path: str(qwen3(path, tie_word_embeddings=True)),
}


def _mlx(source: Path | str, dtype: str = "float32", **options: Any) -> Scorer:
    return load(ModelSpec("m", source=str(source), backend="mlx", dtype=dtype, **options))  # type: ignore[arg-type]


def _logits(scorer: Scorer, texts: Sequence[str], query: str = QUERY) -> list[float]:
    return [score.logit for score in scorer.score(query, texts)]


@pytest.fixture(scope="module", params=[*CROSS_ENCODERS])
def cross_encoder(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Scorer]:
    path = CROSS_ENCODERS[request.param](tmp_path_factory.mktemp(request.param))
    return path, _mlx(path)


@pytest.mark.parametrize("query", QUERIES)
def test_cross_encoders_equal_the_reference(cross_encoder: tuple[Path, Scorer], query: str) -> None:
    path, scorer = cross_encoder
    assert (scorer.info.backend, scorer.info.device, scorer.info.dtype) == ("mlx", "cpu", "float32")
    reference = Reference(str(path), device="cpu")
    pairs = [(query, text) for text in TEXTS]
    expected = reference.predict(pairs, activation_fn=torch.nn.Identity()).tolist()
    assert _logits(scorer, TEXTS, query) == pytest.approx(expected, abs=1e-4)
    assert scorer.score(query, []) == []


def test_scores_do_not_depend_on_the_other_documents(cross_encoder: tuple[Path, Scorer]) -> None:
    scorer = cross_encoder[1]
    documents = [f"{text[: 7 * i]} {i}" for i in range(20) for text in TEXTS]
    together = scorer.forward([scorer.encode("q", documents), scorer.encode("other", TEXTS)])[0]
    alone = [scorer.score("q", [document])[0].logit for document in documents[::13]]
    assert [score.logit for score in together][::13] == pytest.approx(alone, abs=1e-4)


def test_half_precision_scores_are_close(cross_encoder: tuple[Path, Scorer]) -> None:
    path, scorer = cross_encoder
    exact = _logits(scorer, TEXTS)
    spread = max(exact) - min(exact)
    for dtype, bound in (("float16", 0.02), ("bfloat16", 0.15)):
        half = _mlx(path, dtype)
        assert half.info.dtype == dtype
        assert _logits(half, TEXTS) == pytest.approx(exact, abs=bound * spread)


@pytest.mark.parametrize("kind", DECODERS)
def test_decoders_equal_the_recipe(tmp_path: Path, kind: str) -> None:
    make, reference = DECODERS[kind]
    path = make(tmp_path)
    scorer = _mlx(path, max_length=MAX_LENGTH)
    assert (scorer.info.template, scorer.info.backend) == (kind, "mlx")
    for query in (QUERY, "a query that is long " * 40):
        expected = reference(path, query, DECODER_TEXTS)
        found = [relevance(logit, "sigmoid") for logit in _logits(scorer, DECODER_TEXTS, query)]
        assert found == pytest.approx(expected, abs=1e-4)
    exact = _logits(scorer, DECODER_TEXTS)
    for dtype in ("float16", "bfloat16"):
        half = _mlx(path, dtype, max_length=MAX_LENGTH)
        assert _logits(half, DECODER_TEXTS) == pytest.approx(exact, abs=0.05)


@pytest.mark.parametrize("kind", OTHERS)
def test_other_families_equal_torch(tmp_path: Path, kind: str) -> None:
    source = OTHERS[kind](tmp_path)
    expected = _logits(load(ModelSpec("m", source=source, dtype="float32")), TEXTS)
    assert _logits(_mlx(source), TEXTS) == pytest.approx(expected, abs=1e-4)


def test_tokens_can_be_masked(tmp_path: Path) -> None:
    path = qwen3_encoder(tmp_path)
    engine = _engine(str(path))
    rows = [TokenRow([5, 6, 7, 8, 9], attended=3), TokenRow([5, 6])]
    found = engine.run(rows)
    module = AutoModel.from_pretrained(path, dtype=torch.float32).eval()
    with torch.inference_mode():
        expected = module(torch.tensor([[5, 6, 7, 8, 9]]), torch.tensor([[1, 1, 1, 0, 0]]))
    assert torch.allclose(found[0], expected.last_hidden_state[0], atol=1e-4)
    assert [tuple(states.shape) for states in found] == [(5, 32), (2, 32)]


def _engine(source: str, output: Output = "last_hidden_state", **options: Any) -> MLXEngine:
    spec = ModelSpec("m", source=source, **{"dtype": "float32", "backend": "mlx", **options})
    checkpoint = Checkpoint(spec, hub.locate(spec))
    return MLXEngine(EngineRequest(checkpoint, lambda: None, output))


def test_the_prefix_shared_by_documents_is_computed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = _mlx(qwen3(tmp_path))
    expected = _logits(scorer, TEXTS)
    seen: list[int] = []
    prefill = Decoder.prefill

    def spy(decoder: Decoder, prefix: Sequence[int]) -> Any:
        seen.append(len(prefix))
        return prefill(decoder, prefix)

    monkeypatch.setattr(Decoder, "prefill", spy)
    chunks = [scorer.encode(QUERY, TEXTS[i : i + 2]) for i in range(0, len(TEXTS), 2)]
    scores = scorer.forward([*chunks, scorer.encode("another query", TEXTS)])
    found = [score.logit for chunk in scores[: len(chunks)] for score in chunk]
    assert found == pytest.approx(expected, abs=1e-4)
    assert len(seen) == 2


@pytest.mark.parametrize("make", [tiny_bert_cross_encoder, qwen3])
def test_it_runs_in_threads_other_than_the_loading_one(
    tmp_path: Path, make: Callable[..., Path]
) -> None:
    path = make(tmp_path)
    with ThreadPoolExecutor(1) as loading, ThreadPoolExecutor(2) as running:
        scorer = loading.submit(_mlx, path).result()
        runs = [running.submit(_logits, scorer, TEXTS) for _ in range(6)]
        found = [run.result() for run in runs]
    assert found == [pytest.approx(_logits(scorer, TEXTS), abs=1e-5)] * 6


def test_an_out_of_memory_error_halves_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = _engine("embedded")
    rows, left = [TokenRow([5, 6, 7])] * 20, engine.token_budget
    expected = engine.run(rows)
    run, errors = engine._run, ["[METAL] Command buffer execution failed: Insufficient Memory"]

    def fail_once(*args: Any) -> list[torch.Tensor]:
        if errors:
            raise RuntimeError(errors.pop())
        return run(*args)

    monkeypatch.setattr(engine, "_run", fail_once)
    found = engine.run(rows)
    assert engine.token_budget == left // 2
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(found, expected, strict=True))
    scorer = _mlx("embedded")
    scorer.find_budget()
    assert scorer.info.token_budget >= 512


def test_tokens_outside_the_vocabulary_are_refused(tmp_path: Path) -> None:
    engine = _engine(str(qwen3(tmp_path)), "last_token")
    with pytest.raises(ValueError, match="token 9000 is outside"):
        engine.run([TokenRow([1, 9000])])
    with pytest.raises(ValueError, match="token 9000 is outside"):
        engine.run([TokenRow([1])], prefix=[9000])
    with pytest.raises(ValueError, match="supports no prefix"):
        _engine("embedded").run([TokenRow([1])], prefix=[1])


def test_auto_chooses_mlx_on_apple_silicon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(ModelSpec("m", backend="auto")).info.backend == "openvino"
    monkeypatch.setattr(mlx, "apple_silicon", lambda: True)
    assert load(ModelSpec("m", backend="auto")).info.backend == "mlx"
    assert load(ModelSpec("m", backend="auto", dtype="4bit")).info.dtype == "4bit"
    assert load(ModelSpec("m", backend="auto", device="cpu")).info.backend == "openvino"
    assert load(ModelSpec("m")).info.backend == "torch"
    unknown = str(save_architecture(tmp_path, ARCHITECTURES["electra"]))
    assert load(ModelSpec("m", source=unknown, backend="auto")).info.backend == "openvino"
    monkeypatch.setattr(mlx, "installed", lambda: False)
    assert load(ModelSpec("m", backend="auto")).info.backend == "openvino"


def test_auto_falls_back_if_mlx_fails(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*args: object) -> None:
        raise RuntimeError("no such operation")

    monkeypatch.setattr("models.engines.mlx.engine.fill", fail)
    monkeypatch.setattr(mlx, "apple_silicon", lambda: True)
    with caplog.at_level(logging.WARNING):
        assert load(ModelSpec("m", backend="auto")).info.backend == "openvino"
    assert "falls back from MLX: no such operation" in caplog.text
    with pytest.raises(ModelLoadError, match="can't run on MLX: no such operation"):
        _mlx("embedded")


def test_the_device_mlx_selects_the_engine(tmp_path: Path) -> None:
    assert load(ModelSpec("m", backend="auto", device="mlx")).info.backend == "mlx"
    assert load(ModelSpec("m", backend="mlx", device="cpu")).info.device == "cpu"
    with pytest.raises(ModelLoadError, match="only MLX runs on the device 'mlx'"):
        load(ModelSpec("m", backend="torch", device="mlx"))
    with pytest.raises(ModelLoadError, match="can't run on MLX: it runs bert"):
        load(ModelSpec("m", source=str(t5(tmp_path)), backend="auto", device="mlx"))


def test_unsupported_checkpoints_are_refused_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(match: str, source: Path | str = "embedded", **options: Any) -> None:
        with pytest.raises(ModelLoadError, match=match):
            _mlx(source, **options)

    electra = save_architecture(tmp_path / "electra", ARCHITECTURES["electra"])
    refused("it runs bert.*not 'electra'", electra)
    refused("its devices are auto, mlx, mps, cpu", device="cuda")
    refused("ENABLE_TORCH_COMPILE", compile=True)
    refused("lacks weights for classifier.bias", tiny_bert_without_head(tmp_path / "bare"))
    path = tiny_bert_cross_encoder(tmp_path / "bert")
    edit_config(path, hidden_act="quick_gelu")
    refused("does not support the activation 'quick_gelu'", path)
    edit_config(path, hidden_act="gelu", intermediate_size=48)
    refused(r"intermediate.dense.weight is \[64, 32\], but \[48, 32\]", path)
    scaled = qwen3(tmp_path / "scaled")
    edit_config(scaled, rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4})
    refused("rotary positions of type 'linear'", scaled)
    if not mx.metal.is_available():
        refused("no Metal here", device="mps")
    monkeypatch.setattr(mlx, "architecture", lambda checkpoint: import_module("libmlx"))
    refused("it can't be imported .No module named 'libmlx'")
    monkeypatch.setattr(mlx, "installed", lambda: False)
    refused(r"not installed: pip install 'rerank-serve\[mlx\]'")


def test_weight_names_of_early_checkpoints_are_read(tmp_path: Path) -> None:
    path = tiny_bert_cross_encoder(tmp_path)
    expected = _logits(_mlx(path), TEXTS)
    weights = load_file(path / "model.safetensors")
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): weight
        for name, weight in weights.items()
    }
    save_file(old, path / "model.safetensors", metadata={"format": "pt"})
    assert _logits(_mlx(path), TEXTS) == expected
