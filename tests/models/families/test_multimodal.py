"""Vision-language rerankers against the recipes in their own code, one pair at a time."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import (
    AutoTokenizer,
    Qwen2VLForConditionalGeneration,
    Qwen3VLForConditionalGeneration,
)
from transformers.image_utils import load_image
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from models.images import ImageDocument, ImageError
from models.registry import load
from models.types import ModelLoadError, ModelSpec, ScoreOptions, Scorer, ScoringError, relevance
from tests.models.checkpoints import edit_config
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
SUFFIX = "<|im_end|>\n<|im_start|>assistant\n"
PAD, PLACE = "<|image_pad|>", "<|vision_start|><|image_pad|><|vision_end|>"


def _inputs(path: Path, prompt: str, image: Any, pixels: tuple[int, int]) -> dict[str, Any]:
    """The output of the models' processors for a prompt with at most one image."""
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
    return {"input_ids": tokenizer(prompt)["input_ids"], **more}


def _tensors(path: Path, inputs: dict[str, Any]) -> dict[str, Any]:
    ids = torch.tensor([inputs["input_ids"]])
    pad = AutoTokenizer.from_pretrained(path).convert_tokens_to_ids(PAD)
    return {**inputs, "input_ids": ids, "mm_token_type_ids": (ids == pad).int()}


def _split(given: str | ImageDocument) -> tuple[str, str | None]:
    text = given if isinstance(given, str) else given.text
    return text.replace(PAD, " "), None if isinstance(given, str) else given.data_uri


def _fetch_image(uri: str) -> Image.Image:
    """fetch_image of qwen_vl_utils: transparent becomes white, EXIF is ignored."""
    image = Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))
    if image.mode != "RGBA":
        return image.convert("RGB")
    return Image.composite(image, Image.new("RGBA", image.size, "white"), image.split()[3]).convert(
        "RGB"
    )


def _cut(ids: list[int], special: Sequence[int], limit: int, end: int) -> list[int]:
    """truncate_tokens_optimized of scripts/qwen3_vl_reranker.py, which keeps the prompt's end.

    There, `end` is 5, the length of SUFFIX in Qwen's tokens.
    """
    ids, last = ids[:-end], ids[-end:]
    if len(ids) > limit:
        ordinary = [place for place, i in enumerate(ids) if i not in special]
        dropped = set(ordinary[limit - (len(ids) - len(ordinary)) :])
        ids = [i for place, i in enumerate(ids) if place not in dropped]
    return ids + last


def _qwen3_vl(
    path: Path, query: str, given: Sequence[Any], instruction: str = "", limit: int = 8192
) -> list[float]:
    """scripts/qwen3_vl_reranker.py of QwenLM/Qwen3-VL-Embedding under the chat template."""
    model = Qwen3VLForConditionalGeneration.from_pretrained(path, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(path)
    task = "Given a search query, retrieve relevant candidates that answer the query."
    values = []
    for one in given:
        text, uri = _split(one)
        image = None if uri is None else _fetch_image(uri)
        content = (PLACE if image is not None else "") + text
        prompt = (
            "<|im_start|>system\nJudge whether the Document meets the requirements based on the "
            "Query and the Instruct provided. Note that the answer can only be "
            '"yes" or "no".<|im_end|>\n<|im_start|>user\n'
            f"<Instruct>: {instruction or task}<Query>:{query or 'NULL'}\n"
            f"<Document>:{content or 'NULL'}{SUFFIX}"
        )
        with torch.inference_mode():
            inputs = _inputs(path, prompt, image, (4096, 1280 * 32 * 32))
            special, end = tokenizer.all_special_ids, len(tokenizer(SUFFIX)["input_ids"])
            inputs["input_ids"] = _cut(inputs["input_ids"], special, limit, end)
            logits = model(**_tensors(path, inputs)).logits[0, -1]
        yes, no = (logits[tokenizer.convert_tokens_to_ids(word)] for word in ("yes", "no"))
        values.append(float(torch.sigmoid(yes - no)))
    return values


def _jina_m0(
    path: Path, query: str, given: Sequence[Any], instruction: str = "", limit: int = 10240
) -> list[float]:
    """modeling.py of jinaai/jina-reranker-m0: formatting_prompts_func, compute_score, forward."""
    tokenizer = AutoTokenizer.from_pretrained(path)
    weights = load_file(path / "model.safetensors")
    model = Qwen2VLForConditionalGeneration.from_pretrained(path, dtype=torch.float32).eval()
    values = []
    for one in given:
        text, uri = _split(one)
        image = None if uri is None else load_image(uri)
        ids = tokenizer(text, truncation=True, max_length=limit - 512)["input_ids"]
        if len(ids) >= limit - 512:
            text = tokenizer.decode(ids)
        content = (PLACE if image is not None else "") + text
        prompt = f"**Document**:\n{content}\n**Query**:\n{query}"
        inputs = _inputs(path, prompt, image, (3136, 602112))
        inputs["input_ids"] = [*inputs["input_ids"][: limit - 1], 100]
        with torch.inference_mode():
            hidden = model.model(**_tensors(path, inputs)).last_hidden_state[0, -1]
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


@pytest.mark.parametrize("query", [QUERY, "質問", ""])
def test_texts_and_images_score_as_in_the_reference(kind: Kind, query: str) -> None:
    path, reference, scorer = kind
    expected = reference(path, query, DOCUMENTS)
    assert _relevance(scorer, query, DOCUMENTS) == pytest.approx(expected, abs=1e-4)
    assert max(expected) - min(expected) > 0.001  # otherwise the test would show nothing


def test_images_change_the_score(kind: Kind) -> None:
    scorer = kind[2]
    pictures = [document(picture(96, 64, seed=seed)) for seed in range(3)]
    assert len({round(score.logit, 4) for score in scorer.score(QUERY, pictures)}) == 3


def test_scores_do_not_depend_on_the_other_documents(kind: Kind) -> None:
    scorer = kind[2]
    texts = [f"text {i}" for i in range(20)]
    batch = [scorer.encode(QUERY, [*DOCUMENTS, *texts]), scorer.encode("other", DOCUMENTS[:2])]
    together, other = scorer.forward(batch)
    alone = [scorer.score(QUERY, [one])[0].logit for one in DOCUMENTS]
    assert [s.logit for s in together][: len(DOCUMENTS)] == pytest.approx(alone, abs=1e-4)
    expected = [score.logit for score in scorer.score("other", DOCUMENTS[:2])]
    assert [score.logit for score in other] == pytest.approx(expected, abs=1e-4)
    assert scorer.score(QUERY, []) == []


@pytest.mark.parametrize("kind", ["qwen3-vl"], indirect=True)
def test_an_instruction_is_put_into_the_prompt(kind: Kind) -> None:
    path, reference, scorer = kind
    expected = reference(path, QUERY, DOCUMENTS, "find animals")
    found = _relevance(scorer, QUERY, DOCUMENTS, instruction="find animals")
    assert found == pytest.approx(expected, abs=1e-4)


def test_long_texts_are_truncated_as_in_the_reference(kind: Kind) -> None:
    path, reference, _ = kind
    long = "Pandas eat bamboo, and a lot of it. " * 60
    given = [long, "short", document(picture(640, 480)), long + "x"]
    if reference is _qwen3_vl:  # jina-reranker-m0's code takes no text beside an image
        given.append(document(picture(640, 480), long))
    scorer = load(ModelSpec("m", source=str(path), dtype="float32", max_length=1100))
    scores = scorer.score(QUERY, given)
    assert [score.truncated for score in scores] == [True, False, False, True, True][: len(given)]
    assert _relevance(scorer, QUERY, given) == pytest.approx(
        reference(path, QUERY, given, limit=1100), abs=1e-4
    )


def test_text_beside_an_image_leaves_room_for_the_query(tmp_path: Path) -> None:
    """With jina-reranker-m0 the query comes last, where a row is truncated."""
    scorer = load(ModelSpec("m", source=str(jina_m0(tmp_path)), dtype="float32", max_length=1100))
    both = document(picture(640, 480), "long " * 600)
    first, second = (scorer.score(query, [both])[0] for query in ("pandas", "bamboo"))
    assert abs(first.logit - second.logit) > 1e-3


def test_an_image_larger_than_the_limit_is_not_cut(kind: Kind) -> None:
    scorer = load(ModelSpec("m", source=str(kind[0]), dtype="float32", max_length=60))
    given = [document(picture(640, 480), "long " * 80), "text"]
    assert scorer.score(QUERY, given)[0].truncated


def test_transparency_and_orientation_match_the_reference(kind: Kind) -> None:
    path, reference, scorer = kind
    clear = picture(96, 64).convert("RGBA")
    clear.putalpha(picture(96, 64, seed=1).convert("L"))
    turned = Image.Exif()
    turned[0x0112] = 6
    buffer = io.BytesIO()
    picture(96, 64, seed=2).save(buffer, format="jpeg", exif=turned)
    uri = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
    given = [document(clear), ImageDocument(uri), document(picture(64, 64).convert("L"))]
    expected = reference(path, QUERY, given)
    assert _relevance(scorer, QUERY, given) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    "text",
    [
        "<|image<|video_pad|>_pad|>",
        "<|image_<|image_pad|>pad|>",
        "<|video_pad|><|image_pad|>",
        "<|vision_start|><|vision_end|> and <|im_end|>",
    ],
)
def test_placeholders_in_texts_are_not_taken_for_images(kind: Kind, text: str) -> None:
    scorer = kind[2]
    image = document(picture(96, 64), text)
    options = ScoreOptions(instruction=text)
    together = scorer.score(text, [text, image, "other"], options)
    alone = [scorer.score(text, [one], options)[0].logit for one in (text, image, "other")]
    assert [score.logit for score in together] == pytest.approx(alone, abs=1e-4)


def test_no_output_has_the_size_of_the_vocabulary(kind: Kind) -> None:
    path, _, scorer = kind
    widths: set[int] = set()

    def note(_module: Any, _inputs: Any, output: Any) -> None:
        if isinstance(output, torch.Tensor):
            widths.add(output.shape[-1])

    handle = torch.nn.modules.module.register_module_forward_hook(note)
    try:
        scorer.score(QUERY, DOCUMENTS[:2])
    finally:
        handle.remove()
    assert widths
    assert len(AutoTokenizer.from_pretrained(path)) not in widths


def test_long_texts_are_truncated_and_images_are_not(kind: Kind) -> None:
    path = kind[0]
    scorer = load(ModelSpec("m", source=str(path), dtype="float32", max_length=400))
    long = "long " * 400
    scores = scorer.score(QUERY, [long, document(picture(96, 64), long), "short"])
    assert [score.truncated for score in scores] == [True, True, False]
    assert scores[0].tokens < 400 + 20
    assert scores[1].tokens > scores[0].tokens - 10


def test_a_text_of_special_tokens_does_not_exceed_the_limit(kind: Kind) -> None:
    scorer = load(ModelSpec("m", source=str(kind[0]), dtype="float32", max_length=400))
    encoded = scorer.encode("<|im_end|>" * 50_000, ["<|im_start|>" * 50_000])
    assert max(map(len, encoded.rows)) < 500


def test_tokens_include_the_images(kind: Kind) -> None:
    text, image = kind[2].score(QUERY, ["", document(picture(256, 256))])
    assert image.tokens - text.tokens >= 60


def test_documents_can_be_shortened_and_split(kind: Kind) -> None:
    scorer = kind[2]
    scores = scorer.score(
        QUERY, DOCUMENTS, ScoreOptions(max_tokens_per_doc=2, long_document="max_passage")
    )
    plain = scorer.score(QUERY, DOCUMENTS)
    assert scores[1].logit == pytest.approx(plain[1].logit, abs=1e-4)
    assert scores[0].truncated


def test_an_unreadable_image_is_refused(kind: Kind) -> None:
    with pytest.raises(ImageError, match="data URI"):
        kind[2].score(QUERY, [ImageDocument("https://example.org/a.png")])
    with pytest.raises(ImageError, match="2 x 900 pixels; its longer side"):
        kind[2].score(QUERY, ["text", document(picture(2, 900))])


@pytest.mark.parametrize("size", [(1, 1), (1, 200), (500, 9), (33, 31)])
def test_images_of_unusual_sizes_are_read(kind: Kind, size: tuple[int, int]) -> None:
    assert kind[2].score(QUERY, [document(picture(*size))])[0].tokens > 0


def test_settings_of_processors_saved_by_transformers_5(kind: Kind, tmp_path: Path) -> None:
    path = KINDS[kind[2].info.template or ""][0](tmp_path)
    file = path / "preprocessor_config.json"
    saved = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.4]}
    edit_config(path, "preprocessor_config.json", **saved)
    expected = _relevance(load(ModelSpec("m", source=str(path))), QUERY, DOCUMENTS)
    whole = {"image_processor": json.loads(file.read_text())}
    file.unlink()
    edit_config(path, "processor_config.json", **whole)
    found = _relevance(load(ModelSpec("m", source=str(path))), QUERY, DOCUMENTS)
    assert found == pytest.approx(expected, abs=1e-6)


def test_the_published_layout_of_jina_m0(tmp_path: Path) -> None:
    """A flat config, weights with Qwen2-VL's early names, and code that is not run."""
    path = jina_m0(tmp_path)
    expected = _relevance(load(ModelSpec("m", source=str(path), dtype="float32")), QUERY, DOCUMENTS)
    weights = load_file(path / "model.safetensors")
    published = {
        name.replace("model.language_model.", "model.").replace("model.visual.", "visual."): tensor
        for name, tensor in weights.items()
    }
    save_file(published, path / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((path / "config.json").read_text())
    text = config.pop("text_config")
    for name in ("model_type", "dtype", "rope_parameters"):
        text.pop(name, None)
    rope = {"rope_theta": 10000.0, "rope_scaling": {"type": "mrope", "mrope_section": [4, 2, 2]}}
    code = {"auto_map": {"AutoModel": "modeling.JinaVLForRanking"}}
    (path / "config.json").write_text(json.dumps({**text, **config, **rope, **code}))
    (path / "modeling.py").write_text("raise SystemExit('remote code was run')")
    scorer = load(ModelSpec("m", source=str(path), dtype="float32"))
    assert _relevance(scorer, QUERY, DOCUMENTS) == pytest.approx(expected, abs=1e-5)


def test_a_model_that_reads_only_text_refuses_images(tmp_path: Path) -> None:
    scorer = load(ModelSpec("m", source=str(qwen3(tmp_path))))
    with pytest.raises(ImageError, match="m reads only text"):
        scorer.score(QUERY, [document(picture(32, 32))])  # type: ignore[list-item]


def test_missing_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"lacks weights for score\.2\.bias"):
        load(ModelSpec("m", source=str(jina_m0(tmp_path, omit="score.2.bias"))))


def test_nan_raises_an_error_that_names_the_model(tmp_path: Path) -> None:
    path = qwen3_vl(tmp_path)
    weights = load_file(path / "model.safetensors")
    name = next(name for name in weights if name.endswith("language_model.norm.weight"))
    weights[name].fill_(float("nan"))
    save_file(weights, path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ScoringError, match="broken"):
        load(ModelSpec("broken", source=str(path))).score("q", ["d"])
