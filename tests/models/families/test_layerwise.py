"""MiniCPM against an implementation from its paper and model card, at each layer."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, PreTrainedConfig

from models.registry import load
from models.types import ModelLoadError, ModelSpec
from tests.models.decoder_checkpoints import FIRST, LAYERS, minicpm_layerwise

QUERY = "what do pandas eat?"
TEXTS = ["Pandas eat bamboo.", "", "猫は魚を食べる。", "Вода", "a long text " * 200]
LIMIT, HEADS, EPS = 256, 4, 1e-5
PROMPT = (
    "Given a query A and a passage B, determine whether the passage contains an answer to the "
    "query by providing a prediction of either 'Yes' or 'No'."
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return minicpm_layerwise(tmp_path_factory.mktemp("minicpm"))


def _rows(path: Path) -> list[list[int]]:
    # A type unknown to transformers: the tokenizer does not need the config.
    tokenizer = AutoTokenizer.from_pretrained(path, config=PreTrainedConfig())

    def ids(text: str) -> list[int]:
        found: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
        return found

    end = ids("\n") + ids(PROMPT)
    asked = [tokenizer.bos_token_id, *ids(f"A: {QUERY}")[: LIMIT * 3 // 4]]
    room = LIMIT + len(end) - len(asked)
    return [asked + (ids("\n") + ids(f"B: {t}")[:LIMIT])[:room] + end for t in TEXTS]


def _norm(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPS)


def _rotate(x: torch.Tensor) -> torch.Tensor:
    """Rotary positions: x is [heads, tokens, size]."""
    size = x.shape[-1]
    frequencies = 10000.0 ** (-torch.arange(0, size, 2) / size)
    angles = torch.outer(torch.arange(x.shape[1]).float(), frequencies).repeat(1, 2)
    swapped = torch.cat([-x[..., size // 2 :], x[..., : size // 2]], -1)
    return x * angles.cos() + swapped * angles.sin()


def _score(weights: dict[str, torch.Tensor], row: list[int], layer: int) -> float:
    x = weights["model.embed_tokens.weight"][row] * 12
    depth = 1.4 / math.sqrt(LAYERS)
    future = torch.full((len(row), len(row)), -math.inf).triu(1)
    for i in range(layer):
        own = {
            name.removeprefix(f"model.layers.{i}."): tensor
            for name, tensor in weights.items()
            if name.startswith(f"model.layers.{i}.")
        }
        h = _norm(x, own["input_layernorm.weight"])
        q, k, v = (
            (h @ own[f"self_attn.{n}_proj.weight"].T).view(len(row), HEADS, -1).transpose(0, 1)
            for n in "qkv"
        )
        attention = _rotate(q) @ _rotate(k).transpose(1, 2) / math.sqrt(q.shape[-1]) + future
        mixed = (attention.softmax(-1) @ v).transpose(0, 1).reshape(len(row), -1)
        x = x + depth * (mixed @ own["self_attn.o_proj.weight"].T)
        h = _norm(x, own["post_attention_layernorm.weight"])
        gate = torch.nn.functional.silu(h @ own["mlp.gate_proj.weight"].T)
        up = h @ own["mlp.up_proj.weight"].T
        x = x + depth * ((gate * up) @ own["mlp.down_proj.weight"].T)
    last = _norm(x, weights["model.norm.weight"])[-1]
    return float(last @ weights[f"lm_head.{layer - FIRST}.linear_head.weight"][0])


@pytest.mark.parametrize("layer", range(FIRST, LAYERS + 1))
def test_scores_equal_the_recipe_at_each_layer(folder: Path, layer: int) -> None:
    weights = load_file(folder / "model.safetensors")
    expected = [_score(weights, row, layer) for row in _rows(folder)]
    spec = ModelSpec("m", source=str(folder), dtype="float32", max_length=LIMIT, layer=layer)
    scorer = load(spec)
    assert (scorer.info.family, scorer.info.detail) == ("layerwise", f"layer {layer}")
    scores = scorer.score(QUERY, TEXTS)
    assert [score.logit for score in scores] == pytest.approx(expected, abs=1e-4)
    assert [score.tokens for score in scores] == [len(row) for row in _rows(folder)]
    assert max(expected) - min(expected) > 0.1  # otherwise the test would show nothing


def test_the_last_layer_is_the_default_if_layer_28_does_not_exist(folder: Path) -> None:
    assert load(ModelSpec("m", source=str(folder))).info.detail == f"layer {LAYERS}"


@pytest.mark.parametrize("layer", [FIRST - 1, LAYERS + 1])
def test_a_layer_without_a_head_is_refused(folder: Path, layer: int) -> None:
    with pytest.raises(ModelLoadError, match=f"layers {FIRST} to {LAYERS}, not {layer}"):
        load(ModelSpec("m", source=str(folder), layer=layer))


@pytest.mark.parametrize(
    "name", ["lm_head.3.linear_head.weight", "model.layers.2.mlp.up_proj.weight"]
)
def test_missing_weights_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelLoadError, match=r"no head|lacks weights for layers\.2\.mlp"):
        load(ModelSpec("m", source=str(minicpm_layerwise(tmp_path, omit=name))))
