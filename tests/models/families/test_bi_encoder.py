"""Bi-encoders against SentenceTransformer on the same folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.stats import kendalltau
from sentence_transformers import SentenceTransformer

from models import embedded
from models.registry import load
from models.types import ModelLoadError, ModelSpec, Scorer, ScoringError
from tests.models.checkpoints import edit_config, tiny_xlmr_cross_encoder
from tests.models.encoder_checkpoints import (
    PROMPTS,
    bert_encoder,
    folder,
    in_a_subfolder,
    qwen3_encoder,
    with_early_settings,
    with_lower_case,
    with_old_pooling_names,
)

QUERY = "what do pandas eat?"
TEXTS = [
    "Pandas eat bamboo.",
    "",
    "猫と魚と水",
    "вода и огонь",
    "مرحبا بالعالم",
    " emoji 😀 ",
    "far beyond the maximum length " * 60,
]
ANIMALS = ("pandas", "bears", "old ships", "violins", "the mayor", "glaciers")
VERBS = ("eat", "never see", "grow near", "sell")
FOODS = ("bamboo", "fresh fish", "marble", "a train ticket", "snow")
KINDS: dict[str, dict[str, Any]] = {
    "mean": {"normalize": True},
    "cls": {"pooling": "cls", "prompts": PROMPTS},
    "max": {"pooling": "max", "similarity": "dot"},
    "sqrt": {"pooling": "mean_sqrt_len_tokens", "similarity": "dot"},
    "weighted": {"pooling": "weightedmean"},
    "joined": {"pooling": ("mean", "cls"), "dense": (torch.nn.Tanh(), torch.nn.Identity())},
    "last": {"pooling": "lasttoken"},
    "decoder": {"pooling": "lasttoken", "prompts": {"query": "Instruct: find\nQuery:"}},
    "old": {"pooling": ("cls", "mean")},
    "xlmr": {"normalize": True},
}
ENCODERS: dict[str, Callable[[Path], Path]] = {
    "decoder": qwen3_encoder,
    "xlmr": tiny_xlmr_cross_encoder,
}


def _make(name: str, root: Path) -> Path:
    encoder = ENCODERS.get(name, bert_encoder)(root / "encoder")
    path = folder(encoder, root / "folder", **KINDS[name])
    return with_old_pooling_names(path) if name == "old" else path


@pytest.fixture(scope="module", params=list(KINDS))
def kind(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Scorer]:
    path = _make(request.param, tmp_path_factory.mktemp(request.param))
    return path, load(ModelSpec("m", source=str(path), dtype="float32"))


def _reference(path: Path, query: str, texts: list[str]) -> list[float]:
    model = SentenceTransformer(str(path), device="cpu")
    # One at a time: a decoder's batches are padded on the left, which changes positions.
    documents = torch.stack([model.encode_document(t, convert_to_tensor=True) for t in texts])
    asked = model.encode_query(query, convert_to_tensor=True)
    similarity: torch.Tensor = model.similarity(asked, documents)[0]
    return similarity.tolist()


@pytest.mark.parametrize("query", [QUERY, "質問 и вопрос", "a long query " * 60])
def test_scores_equal_the_reference(kind: tuple[Path, Scorer], query: str) -> None:
    path, scorer = kind
    assert scorer.info.family == "bi-encoder"
    # Without special tokens an empty text has no token, and the reference fails.
    texts = [text for text in TEXTS if text or path.parent.name[:7] != "decoder"]
    expected = _reference(path, query, texts)
    found = [score.logit for score in scorer.score(query, texts)]
    assert found == pytest.approx(expected, abs=1e-4, rel=1e-5)
    if query == QUERY:
        assert max(expected) - min(expected) > 0.01  # otherwise the test would show nothing


def test_scores_do_not_depend_on_the_other_documents(kind: tuple[Path, Scorer]) -> None:
    _, scorer = kind
    documents = [f"{text[:80]} {i}" for i in range(43) for text in TEXTS][:300]
    batch = [scorer.encode(QUERY, documents), scorer.encode("other", TEXTS)]
    together = [score.logit for score in scorer.forward(batch)[0]][::29]
    alone = [scorer.score(QUERY, [document])[0].logit for document in documents[::29]]
    assert together == pytest.approx(alone, abs=1e-4, rel=1e-5)
    assert scorer.score(QUERY, []) == []


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("mean", in_a_subfolder),
        ("mean", with_early_settings),
        ("mean", with_lower_case),
        ("cls", lambda path: _edit(path, prompts=PROMPTS)),
        ("cls", lambda path: _edit(path, prompts={"query": None, "x": "y: "})),
        ("cls", lambda path: _edit(path, prompts={"x": "y: "}, default_prompt_name="x")),
        # As Qwen3-Embedding's config has it.
        ("decoder", lambda path: edit_config(path, architectures=["Qwen3ForCausalLM"])),
    ],
    ids=["subfolder", "early", "lower", "passage", "null", "default-prompt", "causal"],
)
def test_other_folder_layouts_are_read(
    tmp_path: Path, name: str, change: Callable[[Path], None]
) -> None:
    path = _make(name, tmp_path)
    change(path)
    scorer = load(ModelSpec("m", source=str(path), dtype="float32"))
    assert scorer.info.family == "bi-encoder"
    texts = ["Pandas Eat BAMBOO.", "Вода И Огонь, Élan", "far beyond the maximum length " * 60]
    found = [score.logit for score in scorer.score(QUERY, texts)]
    assert found == pytest.approx(_reference(path, QUERY, texts), abs=1e-4)


def _edit(path: Path, **changes: Any) -> None:
    edit_config(path, "config_sentence_transformers.json", **changes)


def test_a_cross_encoder_with_pooling_is_not_a_bi_encoder(tmp_path: Path) -> None:
    path = _make("joined", tmp_path)
    _edit(path, model_type="CrossEncoder")
    with pytest.raises(ModelLoadError, match=r"BertModel.*supported are"):
        load(ModelSpec("m", source=str(path)))


def test_the_real_weights_equal_the_reference() -> None:
    path = embedded.folder()
    scorer = load(ModelSpec("m", source=str(path), dtype="float32"))
    assert scorer.info.family == "bi-encoder"
    found = [score.logit for score in scorer.score(QUERY, TEXTS)]
    assert found == pytest.approx(_reference(path, QUERY, TEXTS), abs=1e-4)
    assert max(range(len(TEXTS)), key=found.__getitem__) == 0


def test_bf16_ranks_as_fp32_on_the_real_weights() -> None:
    texts = [f"{animal} {verb} {food}" for animal in ANIMALS for verb in VERBS for food in FOODS]
    exact, rough = (
        [
            s.logit
            for s in load(ModelSpec("m", family="bi-encoder", dtype=dtype)).score(QUERY, texts)
        ]
        for dtype in ("float32", "bfloat16")
    )
    assert kendalltau(exact, rough).statistic >= 0.99


def test_equal_texts_are_run_once(kind: tuple[Path, Scorer]) -> None:
    _, scorer = kind
    first, second = scorer.score(QUERY, ["the same", "the same"])
    assert first == second


def test_the_family_can_be_chosen(tmp_path: Path) -> None:
    path = _make("mean", tmp_path)
    scorer = load(ModelSpec("m", source=str(path), family="late-interaction"))
    assert scorer.info.family == "late-interaction"
    assert load(ModelSpec("m", family="bi-encoder")).info.family == "bi-encoder"
    with pytest.raises(ModelLoadError, match="unknown family 'bm25'"):
        load(ModelSpec("m", family="bm25"))


@pytest.mark.parametrize(
    ("file", "changes", "match"),
    [
        ("config_sentence_transformers.json", {"similarity_fn_name": "euclidean"}, "euclidean"),
        ("1_Pooling/config.json", {"pooling_mode": "attention"}, "pooling 'attention'"),
        ("1_Pooling/config.json", {"include_prompt": False}, "excludes the prompt"),
        ("2_Dense/config.json", {"activation_function": "torch.nn.Mish"}, "with Mish"),
        ("2_Dense/config.json", {"use_residual": True}, "a residual"),
    ],
)
def test_unsupported_settings_are_refused(
    tmp_path: Path, file: str, changes: dict[str, Any], match: str
) -> None:
    path = _make("joined", tmp_path)
    edit_config(path, file, **changes)
    with pytest.raises(ModelLoadError, match=match):
        load(ModelSpec("m", source=str(path)))


def test_a_dense_layer_without_weights_is_refused(tmp_path: Path) -> None:
    path = _make("joined", tmp_path)
    (path / "2_Dense" / "model.safetensors").unlink()
    with pytest.raises(ModelLoadError, match="no safetensors weights"):
        load(ModelSpec("m", source=str(path)))


@pytest.mark.parametrize("name", ["linear.weight", "linear.bias"])
def test_a_dense_layer_without_weight_or_bias_is_refused(tmp_path: Path, name: str) -> None:
    path = _make("joined", tmp_path)
    file = path / "2_Dense" / "model.safetensors"
    save_file({key: t for key, t in load_file(file).items() if key != name}, file)
    with pytest.raises(ModelLoadError, match=f"lacks 2_Dense's {name}"):
        load(ModelSpec("m", source=str(path)))


def test_nan_raises_an_error_that_names_the_model(tmp_path: Path) -> None:
    from transformers import AutoModel

    path = _make("mean", tmp_path)
    model = AutoModel.from_pretrained(path)
    torch.nn.init.constant_(model.encoder.layer[1].output.LayerNorm.weight, float("nan"))
    model.save_pretrained(path)
    with pytest.raises(ScoringError, match="broken"):
        load(ModelSpec("broken", source=str(path))).score("q", ["d"])
