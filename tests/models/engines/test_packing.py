"""Packed rows give the same outputs as padded ones, with almost no additional tokens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from models.engines import packing, torch_engine
from models.engines.packing import Packing
from models.registry import load
from models.types import ModelSpec, TokenRow
from tests.models import decoder_checkpoints as decoders
from tests.models.checkpoints import tiny_bert_cross_encoder, tiny_xlmr_cross_encoder
from tests.models.encoder_checkpoints import bert_encoder, folder, stanford_colbert
from tests.models.families.test_cross_encoder_architectures import KINDS, save_architecture

QUERY = "what do pandas eat"
TEXTS = ["", "Pandas eat bamboo.", "猫と魚と水", "cats eat fish " * 12, "a", "b", "long " * 400]


def _architecture(kind: str) -> Callable[[Path], Path]:
    return lambda path: save_architecture(path, KINDS[kind])


PACKED: dict[str, Callable[[Path], Path]] = {
    "bert": lambda path: tiny_bert_cross_encoder(path),
    "xlm-roberta": lambda path: tiny_xlmr_cross_encoder(path),
    "electra": _architecture("electra"),
    "modernbert": _architecture("modernbert"),
    "bi-encoder": lambda path: folder(bert_encoder(path / "encoder"), path / "whole"),
    "colbert": lambda path: stanford_colbert(path),
    "qwen3": lambda path: decoders.qwen3(path),
    "qwen2": lambda path: decoders.qwen2(path),
    "gemma": lambda path: decoders.gemma(path),
    "minicpm": lambda path: decoders.minicpm_layerwise(path),
}


def _engine(scorer: Any) -> Any:
    return scorer._scorer._engine


def _logits(path: Path, **options: Any) -> list[float]:
    scorer = load(ModelSpec("m", source=str(path), dtype="float32", **options))
    return [score.logit for score in scorer.score(QUERY, TEXTS)]


@pytest.mark.parametrize("kind", PACKED)
def test_packed_rows_score_as_padded_ones(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = PACKED[kind](tmp_path)
    scorer = load(ModelSpec("m", source=str(path), dtype="float32"))
    assert _engine(scorer).packs
    found = [score.logit for score in scorer.score(QUERY, TEXTS)]
    monkeypatch.setattr(torch_engine.TorchEngine, "_may_pack", lambda *_: False)
    padded = load(ModelSpec("m", source=str(path), dtype="float32"))
    assert not _engine(padded).packs
    expected = [score.logit for score in padded.score(QUERY, TEXTS)]
    assert found == pytest.approx(expected, abs=1e-4)
    assert max(expected) - min(expected) > 0.001


def test_models_with_other_attention_are_padded(tmp_path: Path) -> None:
    scorer = load(ModelSpec("m", source=str(save_architecture(tmp_path, KINDS["deberta-v2"]))))
    assert not _engine(scorer).packs


def test_each_token_goes_through_the_layers_once(tmp_path: Path) -> None:
    scorer = load(ModelSpec("m", source=str(tiny_bert_cross_encoder(tmp_path)), dtype="float32"))
    engine, seen = _engine(scorer), []
    layer = engine._module.base_model.base.encoder.layer[0].intermediate.dense
    layer.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].shape[:-1].numel()))
    encoded = scorer.encode(QUERY, TEXTS)
    scorer.forward([encoded])
    widths = packing.common_widths(sorted(map(len, encoded.rows), reverse=True))
    assert sum(seen) == sum(widths)
    assert encoded.cost <= sum(widths) < encoded.cost * 9 / 8 + 4 * len(TEXTS)


def test_the_budget_excludes_padding(tmp_path: Path) -> None:
    path = tiny_bert_cross_encoder(tmp_path)
    scorer = load(ModelSpec("m", source=str(path), dtype="float32", token_budget=64))
    sizes: list[int] = []
    engine = _engine(scorer)
    run = engine._run
    engine._run = lambda past, rows: (sizes.append(sum(map(len, rows))), run(past, rows))[1]
    lengths = [30, 20, 14, 40, 20, 4]
    engine.run([TokenRow([7] * n, [0] * n) for n in lengths])
    assert sizes == [40, 50, 38]


def test_rows_are_padded_if_packed_outputs_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tiny_bert_cross_encoder(tmp_path)
    expected = _logits(path)
    monkeypatch.setattr(Packing, "runs", property(lambda self: [(0, 1, sum(self.widths), None)]))
    scorer = load(ModelSpec("m", source=str(path), dtype="float32"))
    assert not _engine(scorer).packs
    assert [s.logit for s in scorer.score(QUERY, TEXTS)] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("before", [0, 3])
@pytest.mark.parametrize("window", [None, 1, 4, 100])
def test_attention_masks(causal: bool, before: int, window: int | None) -> None:
    mask = packing._mask(6, before, causal, window, torch.device("cpu"))
    for i in range(6):
        for j in range(before + 6):
            near = window is None or abs(i + before - j) < window
            wanted = near and (not causal or j <= i + before)
            if mask is not None:
                assert bool(mask[0, 0, i, j]) == wanted
            else:  # what SDPA does without a mask
                assert wanted == (not causal or j <= i)


def test_positions_in_the_packed_sequence() -> None:
    past = [(torch.zeros(1, 1, 2, 4), torch.zeros(1, 1, 2, 4))]
    packed = Packing([3, 3, 1], torch.device("cpu"), past)
    assert packed.places.tolist() == list(range(9))
    assert Packing([9, 1], torch.device("cpu")).places.tolist() == list(range(10))
    assert Packing([1, 9], torch.device("cpu")).places.tolist() == [0, *range(9, 18)]
    assert packed.positions.tolist() == [[2, 3, 4] * 3]
    assert packed.widths == [3, 3, 3]
    [(first, count, width, own)] = packed.runs
    assert (first, count, width) == (0, 3, 3)
    assert own is not None
    assert own[:, 0, 0].tolist() == [[True] * 5, [True] * 5, [True] * 3 + [False] * 2]
    assert packed.query_ends.tolist() == [0, 3, 6, 7]
    assert packed.key_ends.tolist() == [0, 5, 10, 13]
    assert packed.key_places.tolist() == [0, 1, 2, 3, 4, 0, 1, 5, 6, 7, 0, 1, 8]


def test_padding_wider_than_the_window_does_not_change_outputs(tmp_path: Path) -> None:
    """ModernBERT's local attention reaches 4 tokens to each side; the padding is wider."""
    path = save_architecture(tmp_path, KINDS["modernbert"])
    scorer = load(ModelSpec("m", source=str(path), dtype="float32"))
    engine = _engine(scorer)
    assert engine.packs
    rows = [TokenRow([7 + i % 50 for i in range(n)], [0] * n) for n in (90, 81, 80)]
    together = torch.stack(engine.run(rows))
    alone = torch.stack([engine.run([row])[0] for row in rows])
    assert torch.allclose(together, alone, atol=1e-4)


def test_neighbouring_rows_of_similar_length_share_a_width() -> None:
    assert packing.common_widths([100, 90, 88, 87, 76, 20, 16, 15, 3]) == [
        *(100, 100, 100),
        *(87, 76, 20, 20, 15, 3),
    ]
    assert packing.common_widths([3, 100]) == [3, 100]
    assert packing.common_widths([]) == []


@pytest.mark.slow
def test_compiled_modules_give_the_same_scores(tmp_path: Path) -> None:
    path = tiny_bert_cross_encoder(tmp_path)
    assert _logits(path, compile=True) == pytest.approx(_logits(path), abs=1e-4)
