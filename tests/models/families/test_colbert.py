"""ColBERT in both layouts against the papers' formula, one text at a time."""

from __future__ import annotations

import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import MultiVectorEncoder
from transformers import AutoModel, AutoTokenizer

from models.registry import load
from models.types import ModelLoadError, ModelSpec, Scorer, ScoringError
from tests.models.encoder_checkpoints import pylate_colbert, stanford_colbert

QUERY = "what do pandas eat?"
TEXTS = [
    "Pandas eat bamboo, mostly.",
    "",
    "!!! ...",
    "猫と魚と水",
    "вода и огонь",
    "مرحبا بالعالم",
    "far beyond the maximum length " * 60,
]
KINDS: dict[str, tuple[Callable[..., Path], dict[str, Any]]] = {
    "stanford": (stanford_colbert, {}),
    "stanford-attending": (stanford_colbert, {"attend_to_mask_tokens": True}),
    "stanford-punctuation": (stanford_colbert, {"mask_punctuation": False}),
    "pylate": (pylate_colbert, {}),
    "pylate-attending": (pylate_colbert, {"attend_to_expansion_tokens": True}),
    "pylate-plain": (pylate_colbert, {"do_query_expansion": False, "skiplist_words": ["bamboo"]}),
}


class Reference:
    """The recipe of the ColBERT paper's code and of PyLate's."""

    def __init__(self, path: Path, name: str) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(path)
        self.model = AutoModel.from_pretrained(path, dtype=torch.float32).eval()
        stanford = name.startswith("stanford")
        files = (
            [(path / "model.safetensors")]
            if stanford
            else [path / f"{i}_Dense" / "model.safetensors" for i in (1, 2)]
        )
        self.projections = [load_file(file)["linear.weight"] for file in files]
        self.markers = ("[unused0]", "[unused1]") if stanford else ("[Q] ", "[D] ")
        self.expand = name != "pylate-plain"
        self.attend = name.endswith("attending")
        words = list(string.punctuation)
        if name == "stanford-punctuation":
            words = []
        if name == "pylate-plain":
            words = ["bamboo"]
        self.skipped = set(self.tokenizer.convert_tokens_to_ids(words))

    def vectors(self, text: str, *, is_query: bool) -> torch.Tensor:
        length = 24 if is_query else 48
        marker = self.tokenizer.convert_tokens_to_ids(self.markers[0 if is_query else 1])
        ids = self.tokenizer(text, truncation=True, max_length=length - 1)["input_ids"]
        ids = [ids[0], marker, *ids[1:]]
        mask = [1] * len(ids)
        if is_query and self.expand:
            mask += [int(self.attend)] * (length - len(ids))
            ids = ids + [self.tokenizer.mask_token_id] * (length - len(ids))
        with torch.inference_mode():
            hidden = self.model(
                input_ids=torch.tensor([ids]), attention_mask=torch.tensor([mask])
            ).last_hidden_state[0]
        for weight in self.projections:
            hidden = hidden @ weight.T
        if not is_query:
            hidden = hidden[[i not in self.skipped for i in ids]]
        return torch.nn.functional.normalize(hidden, dim=1)

    def score(self, query: str, texts: list[str]) -> list[float]:
        asked = self.vectors(query, is_query=True)
        sums = [(asked @ self.vectors(t, is_query=False).T).amax(1).sum() for t in texts]
        return [float(total) / len(asked) for total in sums]


@pytest.fixture(scope="module", params=list(KINDS))
def kind(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Reference, Scorer]:
    make, config = KINDS[request.param]
    path = make(tmp_path_factory.mktemp(request.param), **config)
    scorer = load(ModelSpec("m", source=str(path), dtype="float32"))
    return path, Reference(path, request.param), scorer


@pytest.mark.parametrize("query", [QUERY, "質問 и вопрос", "a long query, " * 60, "q"])
def test_scores_equal_the_formula(kind: tuple[Path, Reference, Scorer], query: str) -> None:
    _, reference, scorer = kind
    assert (scorer.info.family, scorer.info.detail) == ("late-interaction", "colbert")
    expected = reference.score(query, TEXTS)
    found = [score.logit for score in scorer.score(query, TEXTS)]
    assert found == pytest.approx(expected, abs=1e-4)
    assert max(expected) - min(expected) > 0.01  # otherwise the test would show nothing


def test_scores_equal_sentence_transformers(kind: tuple[Path, Reference, Scorer]) -> None:
    path, _, scorer = kind
    reference = MultiVectorEncoder(str(path), device="cpu")
    asked = torch.as_tensor(reference.encode_query([QUERY])[0])
    documents = [torch.as_tensor(reference.encode_document([text])[0]) for text in TEXTS]
    expected = [float((asked @ vectors.T).amax(dim=1).mean()) for vectors in documents]
    assert [score.logit for score in scorer.score(QUERY, TEXTS)] == pytest.approx(
        expected, abs=1e-4
    )


def test_a_document_without_any_token_to_keep_has_a_score(tmp_path: Path) -> None:
    path = pylate_colbert(
        tmp_path,
        query_prefix="",
        document_prefix="",
        skiplist_words=["[CLS]", "[SEP]", "!"],
    )
    scores = load(ModelSpec("m", source=str(path))).score(QUERY, ["bamboo", "!!!", ""])
    assert all(-1 <= score.logit <= 1 for score in scores)


def test_scores_do_not_depend_on_the_other_documents(kind: tuple[Path, Reference, Scorer]) -> None:
    scorer = kind[2]
    documents = [f"{text[:80]} {i}" for i in range(43) for text in TEXTS][:300]
    batch = [scorer.encode(QUERY, documents), scorer.encode("other", TEXTS)]
    together = [score.logit for score in scorer.forward(batch)[0]][::29]
    alone = [scorer.score(QUERY, [document])[0].logit for document in documents[::29]]
    assert together == pytest.approx(alone, abs=1e-4)
    assert scorer.score(QUERY, []) == []


def test_tokens_and_truncation_are_reported(kind: tuple[Path, Reference, Scorer]) -> None:
    scores = kind[2].score(QUERY, TEXTS)
    assert [score.truncated for score in scores] == [False] * 6 + [True]
    query_tokens = scores[6].tokens - 48
    assert query_tokens == (24 if kind[1].expand else 9)


def test_bf16_keeps_close_to_fp32(kind: tuple[Path, Reference, Scorer]) -> None:
    path, _, scorer = kind
    half = load(ModelSpec("m", source=str(path), dtype="bfloat16"))
    texts = [f"{text[:80]} {i}" for i in range(6) for text in TEXTS]
    exact, rough = (torch.tensor([s.logit for s in m.score(QUERY, texts)]) for m in (scorer, half))
    assert torch.corrcoef(torch.stack([exact, rough]))[0, 1] > 0.99


@pytest.mark.parametrize("omit", ["linear.weight", "bert.encoder.layer.0.output.dense.weight"])
def test_missing_weights_are_refused(tmp_path: Path, omit: str) -> None:
    with pytest.raises(ModelLoadError, match=r"lacks (ColBERT's linear|weights for encoder)"):
        load(ModelSpec("m", source=str(stanford_colbert(tmp_path, omit=omit))))


def test_a_marker_missing_from_the_tokenizer_is_refused(tmp_path: Path) -> None:
    path = stanford_colbert(tmp_path, query_token_id="[nothing]")
    with pytest.raises(ModelLoadError, match=r"marker '\[nothing\]'"):
        load(ModelSpec("m", source=str(path)))


def test_a_length_beyond_the_positions_is_refused(tmp_path: Path) -> None:
    path = stanford_colbert(tmp_path)
    assert load(ModelSpec("m", source=str(path), max_length=100)).info.max_length == 100
    with pytest.raises(ModelLoadError, match="exceeds the model's 128 positions"):
        load(ModelSpec("m", source=str(path), max_length=129))


def test_nan_raises_an_error_that_names_the_model(tmp_path: Path) -> None:
    path = stanford_colbert(tmp_path)
    model = AutoModel.from_pretrained(path)
    torch.nn.init.constant_(model.encoder.layer[1].output.LayerNorm.weight, float("nan"))
    weights = load_file(path / "model.safetensors")
    weights |= {
        f"bert.{name}": t for name, t in model.state_dict().items() if "position_ids" not in name
    }
    save_file({k: v.contiguous() for k, v in weights.items()}, path / "model.safetensors")
    with pytest.raises(ScoringError, match="broken"):
        load(ModelSpec("broken", source=str(path))).score("q", ["d"])
