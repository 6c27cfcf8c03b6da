"""Decoder rerankers against their model cards' recipes in plain transformers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

from models.engines.torch_engine import TorchEngine
from models.registry import load
from models.types import ModelLoadError, ModelSpec, ScoreOptions, Scorer, ScoringError, relevance
from tests.models.checkpoints import edit_config
from tests.models.decoder_checkpoints import gemma, qwen2, qwen3

QUERY = "what do pandas eat?"
TEXTS = [
    "Pandas eat bamboo.",
    "",
    "a",
    "\n\n starts with white space",
    "猫は魚を食べる。",
    "Вода и огонь",
    "مرحبا بالعالم",
    "नमस्ते दुनिया",
    "emoji 😀👩‍👩‍👧 and símbolos",
    "far beyond the maximum length " * 60,
]
MAX_LENGTH = 320


def _last_logits(path: Path, rows: list[list[int]]) -> torch.Tensor:
    """The logits at the last position of each row, run alone through the whole model."""
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    with torch.inference_mode():
        return torch.stack([model(torch.tensor([row])).logits[0, -1] for row in rows])


def _qwen3_rows(path: Path, query: str, texts: list[str], instruction: str | None) -> list[Any]:
    """https://huggingface.co/Qwen/Qwen3-Reranker-0.6B, process_inputs."""
    tokenizer = AutoTokenizer.from_pretrained(path)
    prefix = (
        "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query "
        'and the Instruct provided. Note that the answer can only be "yes" or "no".<|im_end|>\n'
        "<|im_start|>user\n"
    )
    suffix = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    task = "Given a web search query, retrieve relevant passages that answer the query"
    pairs = [
        f"<Instruct>: {instruction or task}\n<Query>: {query}\n<Document>: {text}" for text in texts
    ]
    start = tokenizer.encode(prefix, add_special_tokens=False)
    end = tokenizer.encode(suffix, add_special_tokens=False)
    inputs = tokenizer(
        pairs, truncation="longest_first", max_length=MAX_LENGTH - len(start) - len(end)
    )
    return [start + ids + end for ids in inputs["input_ids"]]


def _qwen3(path: Path, query: str, texts: list[str], instruction: str | None = None) -> list[float]:
    tokenizer = AutoTokenizer.from_pretrained(path)
    logits = _last_logits(path, _qwen3_rows(path, query, texts, instruction))
    yes, no = (tokenizer.convert_tokens_to_ids(word) for word in ("yes", "no"))
    probability = torch.log_softmax(logits[:, [no, yes]], dim=1)[:, 1].exp()
    return probability.tolist()


def _pair(query: list[int], document: list[int], limit: int) -> list[int]:
    """prepare_for_model with truncation="only_second"."""
    return query + document[: limit - len(query)]


def _mxbai(path: Path, query: str, texts: list[str], instruction: str | None = None) -> list[float]:
    """The package mxbai-rerank 0.1.6, MxbaiRerankV2.prepare_inputs and forward."""
    tokenizer = AutoTokenizer.from_pretrained(path)

    def ids(text: str) -> list[int]:
        found: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
        return found

    prefix = ids(
        "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant."
        "<|im_end|>\n<|im_start|>user\n"
    )
    task = ids(
        "You are a search relevance expert who evaluates how well documents match search queries. "
        "For each query-document pair, carefully analyze the semantic relationship between them, "
        "then provide your binary relevance judgment (0 for not relevant, 1 for relevant).\n"
        "Relevance:"
    )
    start = f"instruction: {instruction}\n" if instruction else ""
    asked = ids(f"{start}query: {query}")[: MAX_LENGTH * 3 // 4]
    end = ids("\n") + task + ids("<|im_end|>\n<|im_start|>assistant\n")
    rows = []
    for text in texts:
        document = ids(f"document: {text}")[:MAX_LENGTH]
        rows.append(prefix + _pair(asked, ids("\n") + document, MAX_LENGTH) + end)
    logits = _last_logits(path, rows)
    return torch.sigmoid(logits[:, ids("1")[0]] - logits[:, ids("0")[0]]).tolist()


def _bge(path: Path, query: str, texts: list[str], instruction: str | None = None) -> list[float]:
    """FlagEmbedding 1.4, BaseLLMReranker.compute_score_single_gpu."""
    tokenizer = AutoTokenizer.from_pretrained(path)

    def ids(text: str) -> list[int]:
        found: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
        return found

    prompt = ids(
        instruction
        or "Given a query A and a passage B, determine whether the passage contains an answer to "
        "the query by providing a prediction of either 'Yes' or 'No'."
    )
    limit = MAX_LENGTH + len(ids("\n")) + len(prompt)
    asked = [tokenizer.bos_token_id, *ids(f"A: {query}")[: MAX_LENGTH * 3 // 4]]
    rows = [
        _pair(asked, ids("\n") + ids(f"B: {text}")[:MAX_LENGTH], limit) + ids("\n") + prompt
        for text in texts
    ]
    return torch.sigmoid(_last_logits(path, rows)[:, ids("Yes")[0]]).tolist()


Reference = Callable[..., list[float]]
KINDS: dict[str, tuple[Callable[..., Path], Reference]] = {
    "qwen3": (qwen3, _qwen3),
    "mxbai": (qwen2, _mxbai),
    "bge": (gemma, _bge),
}


@pytest.fixture(scope="module", params=list(KINDS))
def kind(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Reference, Scorer]:
    make, reference = KINDS[request.param]
    path = make(tmp_path_factory.mktemp(request.param))
    scorer = load(ModelSpec("tiny", source=str(path), dtype="float32", max_length=MAX_LENGTH))
    assert (scorer.info.family, scorer.info.template) == ("causal", request.param)
    return path, reference, scorer


def _relevance(scorer: Scorer, query: str, texts: list[str], **options: Any) -> list[float]:
    scores = scorer.score(query, texts, ScoreOptions(**options))
    return [relevance(score.logit, scorer.info.activation) for score in scores]


@pytest.mark.parametrize("query", [QUERY, "質問 и вопрос", "a query that is long " * 40])
def test_scores_equal_the_recipe(kind: tuple[Path, Reference, Scorer], query: str) -> None:
    path, reference, scorer = kind
    expected = reference(path, query, TEXTS)
    assert _relevance(scorer, query, TEXTS) == pytest.approx(expected, abs=1e-4)
    if query == QUERY:
        assert max(expected) - min(expected) > 0.01  # otherwise the test would show nothing


def test_an_instruction_is_put_into_the_prompt(
    kind: tuple[Path, Reference, Scorer],
) -> None:
    path, reference, scorer = kind
    asked = "Find what animals {eat}"
    expected = reference(path, QUERY, TEXTS, asked)
    assert _relevance(scorer, QUERY, TEXTS, instruction=asked) == pytest.approx(expected, abs=1e-4)
    assert expected != pytest.approx(reference(path, QUERY, TEXTS), abs=1e-4)
    setting = load(
        ModelSpec("m", source=str(path), dtype="float32", max_length=MAX_LENGTH, instruction=asked)
    )
    assert _relevance(setting, QUERY, TEXTS) == pytest.approx(expected, abs=1e-4)


def test_scores_do_not_depend_on_the_other_documents(kind: tuple[Path, Reference, Scorer]) -> None:
    _, _, scorer = kind
    documents = [f"{text} {i}" for i in range(30) for text in TEXTS]
    batch = [
        scorer.encode(QUERY, documents[:150]),
        scorer.encode("another query", TEXTS),
        scorer.encode(QUERY, documents[150:]),
    ]
    first, other, rest = scorer.forward(batch)
    alone = [scorer.score(QUERY, [document])[0].logit for document in documents[::37]]
    together = [score.logit for score in first + rest][::37]
    assert together == pytest.approx(alone, abs=1e-4)
    expected = [score.logit for score in scorer.score("another query", TEXTS)]
    assert [score.logit for score in other] == pytest.approx(expected, abs=1e-4)


def test_tokens_and_truncation_are_reported(tmp_path: Path) -> None:
    path = qwen3(tmp_path)
    scorer = load(ModelSpec("m", source=str(path), dtype="float32", max_length=MAX_LENGTH))
    rows = _qwen3_rows(path, QUERY, TEXTS, None)
    scores = scorer.score(QUERY, TEXTS)
    assert [score.tokens for score in scores] == [len(row) for row in rows]
    assert [score.truncated for score in scores] == [False] * 9 + [True]
    assert scores[9].tokens == MAX_LENGTH


def test_no_documents_give_no_scores(kind: tuple[Path, Reference, Scorer]) -> None:
    assert kind[2].score(QUERY, []) == []


def test_bf16_ranks_as_fp32(kind: tuple[Path, Reference, Scorer]) -> None:
    path, _, scorer = kind
    half = load(ModelSpec("m", source=str(path), dtype="bfloat16", max_length=MAX_LENGTH))
    texts = [text[:200] for text in TEXTS]
    exact, rough = (torch.tensor([s.logit for s in m.score(QUERY, texts)]) for m in (scorer, half))
    # Only pairs that differ in fp32 by more than bf16's resolution can keep their order.
    apart = (exact[:, None] - exact[None]).abs() > 0.05 * (exact.max() - exact.min())
    agree = torch.sign(exact[:, None] - exact[None]) == torch.sign(rough[:, None] - rough[None])
    assert agree[apart].float().mean() >= 0.99


def test_a_converted_classifier_gets_the_prompt_too(tmp_path: Path) -> None:
    path = qwen3(tmp_path, classifier=True)
    scorer = load(ModelSpec("m", source=str(path), dtype="float32", max_length=MAX_LENGTH))
    assert scorer.info.template == "qwen3"
    model = AutoModelForSequenceClassification.from_pretrained(path, dtype=torch.float32).eval()
    rows = _qwen3_rows(path, QUERY, TEXTS, None)
    with torch.inference_mode():
        expected = [float(model(torch.tensor([row])).logits[0, 0]) for row in rows]
    logits = [score.logit for score in scorer.score(QUERY, TEXTS)]
    assert logits == pytest.approx(expected, abs=1e-4)


def test_a_tokenizer_without_a_pad_token_is_accepted(tmp_path: Path) -> None:
    path = qwen3(tmp_path)
    expected = _qwen3(path, QUERY, TEXTS)
    edit_config(path, "tokenizer_config.json", pad_token=None)
    edit_config(path, pad_token_id=None)
    scorer = load(ModelSpec("m", source=str(path), dtype="float32", max_length=MAX_LENGTH))
    assert _relevance(scorer, QUERY, TEXTS) == pytest.approx(expected, abs=1e-4)


def test_the_template_of_an_unknown_decoder_must_be_named(tmp_path: Path) -> None:
    path = qwen3(tmp_path)
    edit_config(path, model_type="llama", architectures=["LlamaForCausalLM"])
    with pytest.raises(ModelLoadError, match=r"prompt for 'llama'.*qwen3, mxbai, bge"):
        load(ModelSpec("m", source=str(path)))
    with pytest.raises(ModelLoadError, match="template 'nonsense'"):
        load(ModelSpec("m", source=str(path), template="nonsense"))


def test_the_prompt_and_the_row_fit_the_positions(tmp_path: Path) -> None:
    path = qwen3(tmp_path)
    scorer = load(ModelSpec("m", source=str(path), dtype="float32", template="bge"))
    assert scorer.info.template == "bge"
    with pytest.raises(ModelLoadError, match="exceeds the model's 4096 positions"):
        load(ModelSpec("m", source=str(path), max_length=4097))
    assert load(ModelSpec("m", source=str(path))).info.max_length == 4096


def test_nan_raises_an_error_that_names_the_model(tmp_path: Path) -> None:
    path = qwen3(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(path)
    torch.nn.init.constant_(model.model.norm.weight, float("nan"))
    model.save_pretrained(path)
    with pytest.raises(ScoringError, match="broken"):
        load(ModelSpec("broken", source=str(path))).score("q", ["d"])


def test_no_layer_has_the_size_of_the_vocabulary(kind: tuple[Path, Reference, Scorer]) -> None:
    path, _, scorer = kind
    seen: list[torch.Size] = []
    linear = torch.nn.functional.linear

    def spy(x: torch.Tensor, weight: torch.Tensor, bias: Any = None) -> torch.Tensor:
        seen.append(weight.shape)
        return linear(x, weight, bias)

    vocabulary = len(AutoTokenizer.from_pretrained(path))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.functional, "linear", spy)
        scorer.score(QUERY, TEXTS)
    assert seen
    assert all(vocabulary not in shape for shape in seen)


def test_the_prefix_shared_by_documents_is_computed_once(
    kind: tuple[Path, Reference, Scorer], monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = kind[2]
    seen: list[int] = []
    prefill = TorchEngine._prefill

    def spy(engine: TorchEngine, prefix: Sequence[int]) -> Any:
        seen.append(len(prefix))
        return prefill(engine, prefix)

    monkeypatch.setattr(TorchEngine, "_prefill", spy)
    chunks = [scorer.encode(QUERY, [f"{text} {i}" for text in TEXTS]) for i in range(3)]
    scorer.forward([*chunks, scorer.encode("another query", TEXTS)])
    assert len(seen) == 2
    assert all(len(row) < chunks[0].tokens[0] for row in chunks[0].rows[:1])
