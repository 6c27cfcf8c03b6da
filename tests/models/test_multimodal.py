"""Vision-language rerankers beside their own code's recipes, one pair at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoTokenizer,
    Qwen2VLForConditionalGeneration,
    Qwen3VLForConditionalGeneration,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from models.images import ImageDocument, ImageError, decode
from models.registry import load
from models.types import ModelLoadError, ModelSpec, ScoreOptions, Scorer, ScoringError, relevance
from tests.models.decoder_checkpoints import qwen3
from tests.models.vision_checkpoints import document, jina_m0, picture, qwen3_vl

QUERY = "what do pandas eat?"
DOCUMENTS: list[str | ImageDocument] = [
    "Pandas eat bamboo.",
    document(picture(96, 64)),
    "",
    document(picture(64, 160, seed=1), "a caption"),
    "猫は魚を食べる。",
    document(picture(70, 70, seed=2), kind="jpeg"),
    "a text with <|image_pad|> in it",
]
PAD, PLACE = "<|image_pad|>", "<|vision_start|><|image_pad|><|vision_end|>"


def _inputs(path: Path, prompt: str, image: Any, pixels: tuple[int, int]) -> dict[str, Any]:
    """What the models' processors make of a prompt with at most one image."""
    tokenizer = AutoTokenizer.from_pretrained(path)
    more = {}
    if image is not None:
        size = {"shortest_edge": pixels[0], "longest_edge": pixels[1]}
        is_qwen3 = pixels[0] == 4096
        means = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3} if is_qwen3 else {}
        patch = 16 if is_qwen3 else 14
        processor = Qwen2VLImageProcessorPil(size=size, patch_size=patch, **means)
        more = dict(processor(images=[image], return_tensors="pt"))
        prompt = prompt.replace(PAD, PAD * (int(more["image_grid_thw"].prod()) // 4))
    ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
    types = (ids == tokenizer.convert_tokens_to_ids(PAD)).int()
    return {"input_ids": ids, "mm_token_type_ids": types, **more}


def _split(given: str | ImageDocument) -> tuple[str, Any]:
    text = given if isinstance(given, str) else given.text
    image = None if isinstance(given, str) else decode(given)
    return text.replace(PAD, ""), image


def _qwen3_vl(path: Path, query: str, given: Sequence[Any], instruction: str = "") -> list[float]:
    """scripts/qwen3_vl_reranker.py of QwenLM/Qwen3-VL-Embedding under the chat template."""
    model = Qwen3VLForConditionalGeneration.from_pretrained(path, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(path)
    task = "Given a search query, retrieve relevant candidates that answer the query."
    values = []
    for one in given:
        text, image = _split(one)
        content = (PLACE if image is not None else "") + text
        prompt = (
            "<|im_start|>system\nJudge whether the Document meets the requirements based on the "
            "Query and the Instruct provided. Note that the answer can only be "
            '"yes" or "no".<|im_end|>\n<|im_start|>user\n'
            f"<Instruct>: {instruction or task}<Query>:{query}\n<Document>:{content or 'NULL'}"
            "<|im_end|>\n<|im_start|>assistant\n"
        )
        with torch.inference_mode():
            inputs = _inputs(path, prompt, image, (4096, 1280 * 32 * 32))
            logits = model(**inputs).logits[0, -1]
        yes, no = (logits[tokenizer.convert_tokens_to_ids(word)] for word in ("yes", "no"))
        values.append(float(torch.sigmoid(yes - no)))
    return values


def _jina_m0(path: Path, query: str, given: Sequence[Any], instruction: str = "") -> list[float]:
    """modeling.py of jinaai/jina-reranker-m0: formatting_prompts_func and forward."""
    weights = load_file(path / "model.safetensors")
    model = Qwen2VLForConditionalGeneration.from_pretrained(path, dtype=torch.float32).eval()
    values = []
    for one in given:
        text, image = _split(one)
        content = (PLACE if image is not None else "") + text
        prompt = f"**Document**:\n{content}\n**Query**:\n{query}"
        inputs = _inputs(path, prompt, image, (3136, 602112))
        inputs["input_ids"] = torch.cat([inputs["input_ids"], torch.tensor([[100]])], dim=1)
        zero = torch.zeros(1, 1, dtype=torch.int)
        inputs["mm_token_type_ids"] = torch.cat([inputs["mm_token_type_ids"], zero], dim=1)
        with torch.inference_mode():
            hidden = model.model(**inputs).last_hidden_state[0, -1]
        inner = torch.relu(weights["score.0.weight"] @ hidden + weights["score.0.bias"])
        logit = weights["score.2.weight"] @ inner + weights["score.2.bias"] - 2.65
        values.append(float(torch.sigmoid(logit)))
    return values


KINDS: dict[str, tuple[Callable[..., Path], Callable[..., list[float]]]] = {
    "qwen3-vl": (qwen3_vl, _qwen3_vl),
    "jina-m0": (jina_m0, _jina_m0),
}
Kind = tuple[Path, Callable[..., list[float]], Scorer]


@pytest.fixture(scope="module", params=list(KINDS))
def kind(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Kind:
    make, reference = KINDS[request.param]
    path = make(tmp_path_factory.mktemp(request.param))
    scorer = load(ModelSpec("m", source=str(path), dtype="float32"))
    assert (scorer.info.family, scorer.info.template) == ("multimodal", request.param)
    assert scorer.info.takes_images
    return path, reference, scorer


def _relevance(scorer: Scorer, query: str, given: Sequence[Any], **options: Any) -> list[float]:
    scores = scorer.score(query, given, ScoreOptions(**options))
    return [relevance(score.logit, scorer.info.activation) for score in scores]


@pytest.mark.parametrize("query", [QUERY, "質問"])
def test_texts_and_images_score_as_the_reference(kind: Kind, query: str) -> None:
    path, reference, scorer = kind
    expected = reference(path, query, DOCUMENTS)
    assert _relevance(scorer, query, DOCUMENTS) == pytest.approx(expected, abs=1e-4)
    assert max(expected) - min(expected) > 0.001  # else this would show nothing


def test_images_change_the_score(kind: Kind) -> None:
    scorer = kind[2]
    pictures = [document(picture(96, 64, seed=seed)) for seed in range(3)]
    assert len({round(score.logit, 4) for score in scorer.score(QUERY, pictures)}) == 3


def test_scores_do_not_depend_on_company(kind: Kind) -> None:
    scorer = kind[2]
    texts = [f"text {i}" for i in range(20)]
    batch = [scorer.encode(QUERY, [*DOCUMENTS, *texts]), scorer.encode("other", DOCUMENTS[:2])]
    together, other = scorer.forward(batch)
    alone = [scorer.score(QUERY, [one])[0].logit for one in DOCUMENTS]
    assert [s.logit for s in together][: len(DOCUMENTS)] == pytest.approx(alone, abs=1e-4)
    expected = [score.logit for score in scorer.score("other", DOCUMENTS[:2])]
    assert [score.logit for score in other] == pytest.approx(expected, abs=1e-4)
    assert scorer.score(QUERY, []) == []


def test_an_instruction_takes_its_place(kind: Kind) -> None:
    path, reference, scorer = kind
    if not scorer.info.takes_instruction:
        pytest.skip("jina-reranker-m0 takes none")
    expected = reference(path, QUERY, DOCUMENTS, "find animals")
    found = _relevance(scorer, QUERY, DOCUMENTS, instruction="find animals")
    assert found == pytest.approx(expected, abs=1e-4)


def test_long_texts_are_cut_and_images_are_not(kind: Kind) -> None:
    path = kind[0]
    scorer = load(ModelSpec("m", source=str(path), dtype="float32", max_length=400))
    long = "long " * 400
    scores = scorer.score(QUERY, [long, document(picture(96, 64), long), "short"])
    assert [score.truncated for score in scores] == [True, True, False]
    assert scores[0].tokens < 400 + 20
    assert scores[1].tokens > scores[0].tokens - 10


def test_tokens_count_the_images(kind: Kind) -> None:
    text, image = kind[2].score(QUERY, ["", document(picture(256, 256))])
    assert image.tokens - text.tokens >= 60


def test_documents_may_be_shortened_and_split(kind: Kind) -> None:
    scorer = kind[2]
    scores = scorer.score(
        QUERY, DOCUMENTS, ScoreOptions(max_tokens_per_doc=2, long_document="max_passage")
    )
    plain = scorer.score(QUERY, DOCUMENTS)
    assert scores[1].logit == pytest.approx(plain[1].logit, abs=1e-4)
    assert scores[0].truncated


def test_an_image_that_can_not_be_read(kind: Kind) -> None:
    with pytest.raises(ImageError, match="data URI"):
        kind[2].score(QUERY, [ImageDocument("https://example.org/a.png")])


def test_a_model_that_reads_text_alone(tmp_path: Path) -> None:
    scorer = load(ModelSpec("m", source=str(qwen3(tmp_path))))
    with pytest.raises(ImageError, match="m reads text alone"):
        scorer.score(QUERY, [document(picture(32, 32))])  # type: ignore[list-item]


def test_missing_weights(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"lacks weights for score\.2\.bias"):
        load(ModelSpec("m", source=str(jina_m0(tmp_path, omit="score.2.bias"))))


def test_nan_is_refused_with_the_model_named(tmp_path: Path) -> None:
    path = qwen3_vl(tmp_path)
    weights = load_file(path / "model.safetensors")
    name = next(name for name in weights if name.endswith("language_model.norm.weight"))
    weights[name].fill_(float("nan"))
    save_file(weights, path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ScoringError, match="broken"):
        load(ModelSpec("broken", source=str(path))).score("q", ["d"])
