"""jina-reranker-v3's recipe written out with plain transformers, beside ours."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, Qwen3Config, Qwen3Model

from models.families import listwise
from models.registry import load
from models.types import ModelLoadError, ModelSpec, ScoreOptions, Scorer, ScoringError
from tests.models.checkpoints import edit_config
from tests.models.decoder_checkpoints import SHAPE, tokenizer

QUERY = "what do pandas eat?"
TEXTS = [
    "Pandas eat bamboo.",
    "",
    "猫は魚を食べる。",
    "Вода и огонь",
    "مرحبا بالعالم",
    "a marker <|embed_token|> and <|rerank_token|> in the text",
    "long " * 40,
]
MARKERS = ["<|embed_token|>", "<|rerank_token|>"]


def _make(path: Path, omit: str = "") -> Path:
    torch.manual_seed(0)
    path.mkdir(parents=True, exist_ok=True)
    tokenizer(path)
    fast = AutoTokenizer.from_pretrained(path)
    fast.add_special_tokens({"additional_special_tokens": MARKERS})
    fast.save_pretrained(str(path))
    config = Qwen3Config(
        vocab_size=len(fast),
        head_dim=8,
        pad_token_id=0,
        **{**SHAPE, "max_position_embeddings": 32768},
    )
    Qwen3Model(config).eval().save_pretrained(str(path))
    weights = {f"model.{k}": v for k, v in load_file(path / "model.safetensors").items()}
    weights["projector.0.weight"] = torch.randn(16, 32)
    weights["projector.2.weight"] = torch.randn(16, 16)
    kept = {name: tensor for name, tensor in weights.items() if name != omit}
    save_file(kept, path / "model.safetensors", metadata={"format": "pt"})
    edit_config(path, architectures=["JinaForRanking"])
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _make(tmp_path_factory.mktemp("jina"))


@pytest.fixture(scope="module")
def scorer(folder: Path) -> Scorer:
    return load(ModelSpec("m", source=str(folder), dtype="float32"))


class Reference:
    """modeling.py of jinaai/jina-reranker-v3: format_docs_prompts_func, forward and rerank."""

    def __init__(self, path: Path, block: int = 125, document_tokens: int = 2048) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(path)
        weights = load_file(path / "model.safetensors")
        self.projector = [weights[f"projector.{i}.weight"] for i in (0, 2)]
        self.model = Qwen3Model.from_pretrained(path, dtype=torch.float32).eval()
        self.block, self.document_tokens = block, document_tokens

    def prompt(self, query: str, documents: list[str], instruction: str | None) -> str:
        text = (
            "<|im_start|>system\n"
            "You are a search relevance expert who can determine a ranking of the passages based "
            "on how relevant they are to the query. "
            "If the query is a question, how relevant a passage is depends on how well it answers "
            "the question. "
            "If not, try to analyze the intent of the query and assess how well each passage "
            "satisfies the intent. "
            "If an instruction is provided, you should follow the instruction when determining "
            "the ranking."
            "<|im_end|>\n<|im_start|>user\n"
        )
        text += f"I will provide you with {len(documents)} passages, each indicated by a "
        text += "numerical identifier. Rank the passages based on their relevance to "
        text += f"query: {query}\n"
        if instruction:
            text += f"<instruct>\n{instruction}\n</instruct>\n"
        parts = []
        for i, document in enumerate(documents):
            parts.append(f'<passage id="{i}">\n{document}<|embed_token|>\n</passage>')
        text += "\n".join(parts) + "\n"
        text += f"<query>\n{query}<|rerank_token|>\n</query>"
        return text + "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"

    def vectors(self, text: str) -> tuple[torch.Tensor, torch.Tensor]:
        ids = self.tokenizer(text, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            hidden = self.model(input_ids=ids).last_hidden_state[0]
        marks = [self.tokenizer.convert_tokens_to_ids(marker) for marker in MARKERS]
        documents, query = (hidden[ids[0] == mark] for mark in marks)
        first, second = self.projector
        return tuple((x @ first.T).relu() @ second.T for x in (documents, query))  # type: ignore[return-value]

    def score(
        self, query: str, documents: list[str], instruction: str | None = None
    ) -> list[float]:
        cleaned = []
        for text in documents:
            for marker in MARKERS:
                text = text.replace(marker, "")
            ids = self.tokenizer(text)["input_ids"]
            if len(ids) > self.document_tokens:
                text = self.tokenizer.decode(ids[: self.document_tokens])
            cleaned.append(text)
        blocks = [cleaned[i : i + self.block] for i in range(0, len(cleaned), self.block)]
        found = [self.vectors(self.prompt(query, block, instruction)) for block in blocks]
        cosine = torch.nn.functional.cosine_similarity
        weights = torch.stack([(1 + cosine(d, q).max()) / 2 for d, q in found])
        asked = sum(w * q for w, (_, q) in zip(weights, found, strict=True)) / weights.sum()
        scores: list[float] = cosine(torch.cat([d for d, _ in found]), asked).tolist()
        return scores


@pytest.mark.parametrize("query", [QUERY, "質問 и вопрос", "q"])
@pytest.mark.parametrize("count", [1, 7])
def test_scores_equal_the_recipe(folder: Path, scorer: Scorer, query: str, count: int) -> None:
    expected = Reference(folder).score(query, TEXTS[:count])
    found = [score.logit for score in scorer.score(query, TEXTS[:count])]
    assert found == pytest.approx(expected, abs=1e-4)
    assert count == 1 or max(expected) - min(expected) > 0.01  # else this would show nothing


def test_several_blocks_meet_in_one_query(
    folder: Path, scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listwise, "BLOCK_DOCUMENTS", 3)
    expected = Reference(folder, block=3).score(QUERY, TEXTS)
    found = [score.logit for score in scorer.score(QUERY, TEXTS)]
    assert found == pytest.approx(expected, abs=1e-4)
    assert found != pytest.approx(Reference(folder).score(QUERY, TEXTS), abs=1e-4)


def test_130_documents_are_two_blocks(folder: Path, scorer: Scorer) -> None:
    texts = [f"{text[:30]} {i}" for i in range(19) for text in TEXTS][:130]
    encoded = scorer.encode(QUERY, texts)
    assert [len(row.read or ()) for row in encoded.rows] == [126, 6]
    expected = Reference(folder).score(QUERY, texts)
    assert [s.logit for s in scorer.score(QUERY, texts)] == pytest.approx(expected, abs=1e-4)


def test_an_instruction_takes_its_place(folder: Path, scorer: Scorer) -> None:
    expected = Reference(folder).score(QUERY, TEXTS, "find animals")
    options = ScoreOptions(instruction="find animals")
    found = [score.logit for score in scorer.score(QUERY, TEXTS, options)]
    assert found == pytest.approx(expected, abs=1e-4)
    assert expected != pytest.approx(Reference(folder).score(QUERY, TEXTS), abs=1e-4)


def test_long_texts_are_cut(folder: Path, scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listwise, "MAX_DOCUMENT_TOKENS", 20)
    scores = scorer.score(QUERY, TEXTS)
    assert [s.truncated for s in scores] == [False, False, True, True, True, True, True]
    expected = Reference(folder, document_tokens=20).score(QUERY, TEXTS)
    assert [s.logit for s in scores] == pytest.approx(expected, abs=1e-4)
    monkeypatch.setattr(listwise, "MAX_QUERY_TOKENS", 2)
    assert all(s.truncated for s in scorer.score(QUERY, ["d"]))


def test_requests_in_one_pass_keep_apart(scorer: Scorer) -> None:
    batch = [scorer.encode(QUERY, TEXTS), scorer.encode("other", TEXTS[:2])]
    for found, (query, texts) in zip(
        scorer.forward(batch), [(QUERY, TEXTS), ("other", TEXTS[:2])], strict=True
    ):
        expected = [score.logit for score in scorer.score(query, texts)]
        assert [score.logit for score in found] == pytest.approx(expected, abs=1e-4)
    assert scorer.score(QUERY, []) == []


def test_the_order_and_the_company_matter(scorer: Scorer) -> None:
    assert (scorer.info.family, scorer.info.listwise) == ("listwise", True)
    forth = [score.logit for score in scorer.score(QUERY, TEXTS)]
    back = [score.logit for score in scorer.score(QUERY, TEXTS[::-1])][::-1]
    assert forth != pytest.approx(back, abs=1e-4)


def test_tokens_sum_up_to_the_prompt(folder: Path, scorer: Scorer) -> None:
    cleaned = [text.replace(MARKERS[0], "").replace(MARKERS[1], "") for text in TEXTS]
    reference = Reference(folder)
    whole = reference.tokenizer(reference.prompt(QUERY, cleaned, None))["input_ids"]
    assert sum(score.tokens for score in scorer.score(QUERY, TEXTS)) == len(whole)


def test_missing_weights_and_tokens(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"lacks weights for projector\.2"):
        load(ModelSpec("m", source=str(_make(tmp_path / "a", omit="projector.2.weight"))))
    name = "model.layers.1.mlp.up_proj.weight"
    with pytest.raises(ModelLoadError, match=r"lacks weights for layers\.1"):
        load(ModelSpec("m", source=str(_make(tmp_path / "b", omit=name))))
    bare = _make(tmp_path / "c")
    tokenizer(bare)
    with pytest.raises(ModelLoadError, match=r"no token '<\|embed_token\|>'"):
        load(ModelSpec("m", source=str(bare)))


def test_nan_is_refused_with_the_model_named(tmp_path: Path) -> None:
    path = _make(tmp_path)
    weights = load_file(path / "model.safetensors")
    weights["model.norm.weight"].fill_(float("nan"))
    save_file(weights, path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ScoringError, match="broken"):
        load(ModelSpec("broken", source=str(path))).score("q", ["d"])
