"""jina-reranker-v3 against its recipe in plain transformers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.stats import kendalltau
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

    def __init__(
        self,
        path: Path,
        block: int = 125,
        query_tokens: int = 512,
        document_tokens: int = 2048,
        max_length: int = 131072,
    ) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(path)
        weights = load_file(path / "model.safetensors")
        self.projector = [weights[f"projector.{i}.weight"] for i in (0, 2)]
        self.model = Qwen3Model.from_pretrained(path, dtype=torch.float32).eval()
        self.block, self.max_length = block, max_length
        self.query_tokens, self.document_tokens = query_tokens, document_tokens

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

    def cut(self, text: str, limit: int) -> tuple[str, int]:
        ids = self.tokenizer(text, truncation=True, max_length=limit)["input_ids"]
        return self.tokenizer.decode(ids) if len(ids) >= limit else text, len(ids)

    def blocks(self, query: str, documents: list[str]) -> tuple[str, list[list[str]]]:
        query, query_length = self.cut(query, self.query_tokens)
        blocks: list[list[str]] = []
        block: list[str] = []
        capacity = self.max_length - 2 * query_length
        for document in documents:
            text, length = self.cut(document, self.document_tokens)
            block.append(text)
            capacity -= length
            if len(block) >= self.block or capacity <= self.document_tokens:
                blocks.append(block)
                block, capacity = [], self.max_length - 2 * query_length
        return query, [*blocks, block] if block else blocks

    def score(
        self, query: str, documents: list[str], instruction: str | None = None
    ) -> list[float]:
        query, blocks = self.blocks(_bare(query), [_bare(text) for text in documents])
        found = [self.vectors(self.prompt(query, block, instruction)) for block in blocks]
        cosine = torch.nn.functional.cosine_similarity
        weights = [float(((1 + cosine(d, q)) / 2).max()) for d, q in found]
        asked = np.average([q.numpy() for _, q in found], axis=0, weights=weights)[0]
        texts = torch.cat([d for d, _ in found]).numpy()
        norms = np.linalg.norm(asked) * np.linalg.norm(texts, axis=1)
        scores: list[float] = (texts @ asked / norms).tolist()
        return scores


def _bare(text: str) -> str:
    for marker in MARKERS:
        text = text.replace(marker, "")
    return text


def _logits(scorer: Scorer, query: str, documents: list[str]) -> list[float]:
    return [score.logit for score in scorer.score(query, documents)]


@pytest.mark.parametrize("query", [QUERY, "質問 и вопрос", "q"])
@pytest.mark.parametrize("count", [1, 7])
def test_scores_equal_the_recipe(folder: Path, scorer: Scorer, query: str, count: int) -> None:
    expected = Reference(folder).score(query, TEXTS[:count])
    found = [score.logit for score in scorer.score(query, TEXTS[:count])]
    assert found == pytest.approx(expected, abs=1e-4)
    # otherwise the test would show nothing
    assert count == 1 or max(expected) - min(expected) > 0.01


def test_query_vectors_of_several_blocks_are_averaged(
    folder: Path, scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listwise, "BLOCK_DOCUMENTS", 3)
    expected = Reference(folder, block=3).score(QUERY, TEXTS)
    found = [score.logit for score in scorer.score(QUERY, TEXTS)]
    assert found == pytest.approx(expected, abs=1e-4)
    assert found != pytest.approx(Reference(folder).score(QUERY, TEXTS), abs=1e-4)


@pytest.mark.parametrize(("count", "read"), [(125, [126]), (126, [126, 2]), (130, [126, 6])])
def test_a_block_has_125_documents(
    folder: Path, scorer: Scorer, count: int, read: list[int]
) -> None:
    texts = [f"{text[:30]} {i}" for i in range(19) for text in TEXTS][:count]
    encoded = scorer.encode(QUERY, texts)
    assert [len(row.read or ()) for row in encoded.rows] == read
    expected = Reference(folder).score(QUERY, texts)
    assert [s.logit for s in scorer.score(QUERY, texts)] == pytest.approx(expected, abs=1e-4)


def test_a_block_ends_where_the_next_document_might_not_fit(folder: Path) -> None:
    scorer = load(ModelSpec("m", source=str(folder), dtype="float32", max_length=6000))
    texts = [f"{i} " + "long " * 90 for i in range(14)]
    reference = Reference(folder, max_length=6000)
    sizes = [len(block) for block in reference.blocks(QUERY, texts)[1]]
    assert len(sizes) > 1
    assert sizes[0] < 14
    rows = scorer.encode(QUERY, texts).rows
    assert [len(row.read or ()) - 1 for row in rows] == sizes
    assert _logits(scorer, QUERY, texts) == pytest.approx(reference.score(QUERY, texts), abs=1e-4)


def test_no_prompt_is_longer_than_max_length(folder: Path) -> None:
    scorer = load(ModelSpec("m", source=str(folder), dtype="float32", max_length=700))
    texts = ["long " * 200, *TEXTS, "猫は魚を食べる。" * 100]
    for query in (QUERY, "long query " * 300):
        encoded = scorer.encode(query, texts)
        assert max(len(row) for row in encoded.rows) <= 700
        assert sum(len(row.read or ()) - 1 for row in encoded.rows) == len(texts)
        assert sum(encoded.tokens) == encoded.cost
        assert encoded.truncated[0]
        assert encoded.truncated[-1]
        assert len(scorer.forward([encoded])[0]) == len(texts)
    assert not scorer.encode(QUERY, ["short"]).truncated[0]


def test_an_instruction_is_put_into_the_prompt(folder: Path, scorer: Scorer) -> None:
    expected = Reference(folder).score(QUERY, TEXTS, "find animals")
    options = ScoreOptions(instruction="find animals")
    found = [score.logit for score in scorer.score(QUERY, TEXTS, options)]
    assert found == pytest.approx(expected, abs=1e-4)
    assert expected != pytest.approx(Reference(folder).score(QUERY, TEXTS), abs=1e-4)


def test_long_texts_are_truncated(
    folder: Path, scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listwise, "MAX_DOCUMENT_TOKENS", 20)
    scores = scorer.score(QUERY, TEXTS)
    assert [s.truncated for s in scores] == [False, False, True, True, True, True, True]
    expected = Reference(folder, document_tokens=20).score(QUERY, TEXTS)
    assert [s.logit for s in scores] == pytest.approx(expected, abs=1e-4)
    monkeypatch.setattr(listwise, "MAX_QUERY_TOKENS", 5)
    assert all(s.truncated for s in scorer.score(QUERY, ["d"]))
    for query in (QUERY, "質問 и вопрос"):  # the second is cut inside a character
        expected = Reference(folder, query_tokens=5, document_tokens=20).score(query, TEXTS)
        assert _logits(scorer, query, TEXTS) == pytest.approx(expected, abs=1e-4)


def test_length_limits_match_the_recipe(folder: Path, scorer: Scorer) -> None:
    query, texts = "what is it " * 200, ["long " * 800, "short", "猫は魚" * 400]
    assert all(s.truncated for s in scorer.score(query, texts))
    assert [s.truncated for s in scorer.score(QUERY, texts)] == [True, False, True]
    expected = Reference(folder).score(query, texts)
    assert _logits(scorer, query, texts) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    "text",
    [
        "a <|embed_<|embed_token|>token|> b",
        "a <|embed_<|rerank_token|>token|> b",
        "a <|rerank_<|embed_token|>token|> b",
        "<|embed_<|embed_<|embed_token|>token|>token|>",
        "<|em" + "<|rerank_token|>" * 3 + "bed_token|>",
    ],
)
def test_markers_in_texts_never_act_as_markers(scorer: Scorer, text: str) -> None:
    for query, documents in [(QUERY, [text, "b"]), (text, ["a", "b"])]:
        encoded = scorer.encode(query, documents, ScoreOptions(instruction=text))
        assert [len(row.read or ()) for row in encoded.rows] == [3]
        alone = _logits(scorer, "other", TEXTS[:2])
        _, beside = scorer.forward([encoded, scorer.encode("other", TEXTS[:2])])
        assert [score.logit for score in beside] == pytest.approx(alone, abs=1e-4)


def test_markers_in_the_query_are_removed(folder: Path, scorer: Scorer) -> None:
    query = f"what do {MARKERS[1]}pandas{MARKERS[0]} eat?"
    assert _logits(scorer, query, TEXTS) == pytest.approx(_logits(scorer, QUERY, TEXTS), abs=1e-6)
    assert _logits(scorer, query, TEXTS) == pytest.approx(
        Reference(folder).score(query, TEXTS), abs=1e-4
    )


def test_bfloat16_keeps_the_order_of_scores_that_differ(folder: Path, scorer: Scorer) -> None:
    low = load(ModelSpec("m", source=str(folder), dtype="bfloat16"))
    texts = [f"{text[:30]} {i}" for i in range(6) for text in TEXTS]
    exact, rough = (np.array(_logits(s, QUERY, texts)) for s in (scorer, low))
    assert np.abs(exact - rough).max() < 0.01
    # The recipe itself has tau 0.958 in bfloat16: with random weights many scores nearly tie.
    assert kendalltau(exact, rough).statistic > 0.95
    i, j = np.triu_indices(len(texts), 1)
    apart = np.abs(exact[i] - exact[j]) > 0.01
    assert apart.sum() > 700
    assert (((exact[i] - exact[j]) * (rough[i] - rough[j]))[apart] > 0).all()


def test_keys_and_values_are_not_cached(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a cache was made")

    monkeypatch.setattr("transformers.models.qwen3.modeling_qwen3.DynamicCache", refuse)
    assert len(scorer.score(QUERY, TEXTS)) == len(TEXTS)


def test_requests_in_one_batch_do_not_affect_each_other(scorer: Scorer) -> None:
    batch = [scorer.encode(QUERY, TEXTS), scorer.encode("other", TEXTS[:2])]
    for found, (query, texts) in zip(
        scorer.forward(batch), [(QUERY, TEXTS), ("other", TEXTS[:2])], strict=True
    ):
        expected = [score.logit for score in scorer.score(query, texts)]
        assert [score.logit for score in found] == pytest.approx(expected, abs=1e-4)
    assert scorer.score(QUERY, []) == []


def test_scores_depend_on_the_order_and_the_other_documents(scorer: Scorer) -> None:
    assert (scorer.info.family, scorer.info.listwise) == ("listwise", True)
    forth = [score.logit for score in scorer.score(QUERY, TEXTS)]
    back = [score.logit for score in scorer.score(QUERY, TEXTS[::-1])][::-1]
    assert forth != pytest.approx(back, abs=1e-4)


def test_tokens_add_up_to_the_prompt(folder: Path, scorer: Scorer) -> None:
    cleaned = [text.replace(MARKERS[0], "").replace(MARKERS[1], "") for text in TEXTS]
    reference = Reference(folder)
    whole = reference.tokenizer(reference.prompt(QUERY, cleaned, None))["input_ids"]
    assert sum(score.tokens for score in scorer.score(QUERY, TEXTS)) == len(whole)


def test_missing_weights_and_tokens_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"lacks weights for projector\.2"):
        load(ModelSpec("m", source=str(_make(tmp_path / "a", omit="projector.2.weight"))))
    name = "model.layers.1.mlp.up_proj.weight"
    with pytest.raises(ModelLoadError, match=r"lacks weights for layers\.1"):
        load(ModelSpec("m", source=str(_make(tmp_path / "b", omit=name))))
    narrow = _make(tmp_path / "d")
    weights = load_file(narrow / "model.safetensors")
    weights["projector.0.weight"] = torch.randn(16, 8)
    save_file(weights, narrow / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelLoadError, match=r"projector.* does not fit"):
        load(ModelSpec("m", source=str(narrow)))
    bare = _make(tmp_path / "c")
    tokenizer(bare)
    with pytest.raises(ModelLoadError, match=r"no token '<\|embed_token\|>'"):
        load(ModelSpec("m", source=str(bare)))


def test_nan_raises_an_error_that_names_the_model(tmp_path: Path) -> None:
    path = _make(tmp_path)
    weights = load_file(path / "model.safetensors")
    weights["model.norm.weight"].fill_(float("nan"))
    save_file(weights, path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ScoringError, match="broken"):
        load(ModelSpec("broken", source=str(path))).score("q", ["d"])
