"""Rerankers that read images: Qwen3-VL-Reranker and jina-reranker-m0.

Qwen3-VL-Reranker follows scripts/qwen3_vl_reranker.py of Qwen/Qwen3-VL-Reranker-2B, which reads
images with qwen_vl_utils. jina-reranker-m0 follows modeling.py of jinaai/jina-reranker-m0.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any, ClassVar

import torch

from models.checkpoint import Checkpoint
from models.concurrency import checkpoint as pause
from models.engines import engine_for
from models.families.base import Family
from models.images import ImageDocument, ImageError, decode
from models.types import (
    DEFAULTS,
    Encoded,
    ModelLoadError,
    Patches,
    Score,
    ScoreOptions,
    TokenRow,
)

PAD = "<|image_pad|>"
PLACEHOLDER = re.compile(r"<\|(?:image|video)_pad\|>")
# Maximum aspect ratio: both models' resizing refuses thinner images.
MAX_RATIO = 200


def matches(checkpoint: Checkpoint) -> bool:
    known = ("Qwen3VLForConditionalGeneration", "JinaVLForRanking")
    return any(name in known for name in checkpoint.architectures)


def load(checkpoint: Checkpoint) -> Multimodal:
    """Build the class for the checkpoint."""
    return (JinaM0 if "JinaVLForRanking" in checkpoint.architectures else Qwen3VL)(checkpoint)


class Multimodal(Family):
    """A vision-language decoder, read at the last token of its prompt."""

    # Minimum and maximum number of pixels of an image, and how it is decoded before resizing.
    PIXELS: tuple[int, int]
    UPRIGHT = False
    OVER_WHITE = False
    # Used if the checkpoint gives none; without an entry here, CLIP's apply.
    MEANS: ClassVar[Mapping[str, list[float]]] = {}

    def _setup(self, checkpoint: Checkpoint, module: Any, **info: Any) -> None:
        if find_spec("PIL") is None:
            raise ModelLoadError(
                f"{checkpoint.spec.source!r} reads images, and Pillow is not installed: "
                "pip install 'rerank-serve[images]'"
            )
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import (
            Qwen2VLImageProcessorPil,
        )

        module.config.get_text_config().use_cache = False
        vision = module.config.vision_config
        self._merged = int(vision.spatial_merge_size) ** 2
        saved = _saved_processor(checkpoint)
        means = {name: saved[name] for name in ("image_mean", "image_std") if name in saved}
        # The patches' shape is fixed by the weights, so it comes from the model's config.
        self._images = Qwen2VLImageProcessorPil(
            size={"shortest_edge": self.PIXELS[0], "longest_edge": self.PIXELS[1]},
            patch_size=vision.patch_size,
            temporal_patch_size=vision.temporal_patch_size,
            merge_size=vision.spatial_merge_size,
            **{**self.MEANS, **means},
        )
        self._pad = checkpoint.tokenizer.convert_tokens_to_ids(PAD)
        if self._pad is None or self._pad == checkpoint.tokenizer.unk_token_id:
            raise ModelLoadError(f"{checkpoint.spec.source!r}: its tokenizer has no token {PAD!r}")
        engine = engine_for(checkpoint, lambda: module, "last_token", types="mm_token_type_ids")
        super().__init__(
            checkpoint,
            engine,
            family="multimodal",
            activation="sigmoid",
            takes_images=True,
            **info,
        )

    @abstractmethod
    def _row(self, query: str, text: str, places: int, instruction: str) -> tuple[list[int], bool]:
        """The prompt's tokens, `places` of them for an image, and whether it was truncated."""

    @abstractmethod
    def _read(self, hidden: torch.Tensor) -> torch.Tensor:
        """Hidden states [rows, hidden] to raw scores [rows]."""

    def encode(
        self,
        query: str,
        documents: Sequence[str | ImageDocument],
        options: ScoreOptions = DEFAULTS,
    ) -> Encoded:
        """One row per document. Raises ImageError for an image that cannot be read."""
        asked, _ = self._text.head(_plain(self._clean(query)), self.info.max_length)
        instruction = _plain(options.instruction or self.info.instruction or "")
        instruction, _ = self._text.head(instruction, self.info.max_length)
        rows, cut = [], []
        for document in documents:
            pause()
            text = document if isinstance(document, str) else document.text
            patches = None if isinstance(document, str) else self._patches(document)
            # Image tokens are counted before texts are cut, as in the models' processors.
            places = 0 if patches is None else len(patches.pixels) // self._merged
            # Special tokens in the part of a text that is not read are dropped, unlike in Qwen's
            # script, where any number of them is kept.
            text, _ = self._text.head(_plain(self._clean(text)), self.info.max_length)
            ids, was_cut = self._row(asked, text, places, instruction)
            images = () if patches is None else (patches,)
            rows.append(TokenRow(ids, [int(i == self._pad) for i in ids], images=images))
            cut.append(was_cut)
        return Encoded(rows, [len(row) for row in rows], cut)

    def _patches(self, document: ImageDocument) -> Patches:
        image = decode(document, upright=self.UPRIGHT, over_white=self.OVER_WHITE)
        if max(image.size) > MAX_RATIO * min(image.size):
            raise ImageError(
                f"an image has {image.width} x {image.height} pixels; its longer side may be at "
                f"most {MAX_RATIO} times the shorter one"
            )
        made = self._images(images=[image], return_tensors="pt")
        return Patches(made["pixel_values"], tuple(made["image_grid_thw"][0].tolist()))

    def forward(self, batch: Sequence[Encoded]) -> list[list[Score]]:
        rows = [row for encoded in batch for row in encoded.rows]
        if not rows:
            return [[] for _ in batch]
        values = iter(self._read(torch.stack(self._engine.run(rows))).tolist())
        return [self._scores([next(values) for _ in e.rows], e) for e in batch]


class Qwen3VL(Multimodal):
    """The raw score is logit(yes) - logit(no), as in Qwen3-Reranker."""

    SYSTEM = (
        "Judge whether the Document meets the requirements based on the Query and the Instruct "
        'provided. Note that the answer can only be "yes" or "no".'
    )
    INSTRUCTION = "Given a search query, retrieve relevant candidates that answer the query."
    SUFFIX = "<|im_end|>\n<|im_start|>assistant\n"
    MAX_LENGTH = 8192
    PIXELS = (4 * 32 * 32, 1280 * 32 * 32)
    OVER_WHITE = True
    MEANS: ClassVar[Mapping[str, list[float]]] = {
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }

    def __init__(self, checkpoint: Checkpoint) -> None:
        from transformers import Qwen3VLForConditionalGeneration

        module = checkpoint.module(Qwen3VLForConditionalGeneration)
        vocabulary = checkpoint.tokenizer.get_vocab()
        if "yes" not in vocabulary or "no" not in vocabulary:
            raise ModelLoadError(
                f"{checkpoint.spec.source!r}: its tokenizer has no tokens for yes and no"
            )
        weight = module.get_output_embeddings().weight.detach().float()
        self._head = weight[vocabulary["yes"]] - weight[vocabulary["no"]]
        self._setup(
            checkpoint,
            module.model,
            max_length=checkpoint.spec.max_length or self.MAX_LENGTH,
            template="qwen3-vl",
            takes_instruction=True,
            instruction=checkpoint.spec.instruction or self.INSTRUCTION,
        )
        self._suffix = self._ids(self.SUFFIX)
        # Image tokens are kept even if the tokenizer does not declare them special.
        self._special = {*checkpoint.tokenizer.all_special_ids, self._pad}

    def _row(self, query: str, text: str, places: int, instruction: str) -> tuple[list[int], bool]:
        document = _image(places) + text
        prompt = (
            f"<|im_start|>system\n{self.SYSTEM}<|im_end|>\n<|im_start|>user\n"
            f"<Instruct>: {instruction}<Query>:{query or 'NULL'}\n"
            f"<Document>:{document or 'NULL'}"
        )
        ids = self._ids(prompt)
        if len(ids) <= self.info.max_length:
            return ids + self._suffix, False
        # As in the script: keeps all special tokens, and as many others as there is room for. But
        # texts may consist of special tokens, so their number is limited too.
        room = self.info.max_length - sum(i in self._special for i in ids)
        special_room = self.info.max_length
        kept = []
        for i in ids:
            if i == self._pad:
                kept.append(i)
            elif i in self._special:
                special_room -= 1
                if special_room >= 0:
                    kept.append(i)
            else:
                room -= 1
                if room >= 0:
                    kept.append(i)
        return kept + self._suffix, True

    def _read(self, hidden: torch.Tensor) -> torch.Tensor:
        return torch.mv(hidden, self._head)


class JinaM0(Multimodal):
    """The raw score is the head's output minus the bias that modeling.py subtracts."""

    LOGIT_BIAS = 2.65
    SCORE_TOKEN = 100
    MAX_LENGTH = 10240
    MAX_QUERY_LENGTH = 512
    PIXELS = (3136, 602112)
    UPRIGHT = True

    def __init__(self, checkpoint: Checkpoint) -> None:
        from transformers import Qwen2VLForConditionalGeneration

        weights = checkpoint.weights()
        names = ("score.0.weight", "score.0.bias", "score.2.weight", "score.2.bias")
        missing = [name for name in names if name not in weights]
        if missing:
            raise ModelLoadError(f"{checkpoint.spec.source!r} lacks weights for {missing[0]}")
        self._head = [weights[name].float() for name in names]
        module = checkpoint.module(Qwen2VLForConditionalGeneration, may_lack=("lm_head",))
        self._setup(
            checkpoint,
            module.model,
            max_length=checkpoint.spec.max_length or self.MAX_LENGTH,
            template="jina-m0",
        )

    def _row(self, query: str, text: str, places: int, instruction: str) -> tuple[list[int], bool]:
        limit = self.info.max_length
        # The reference takes text or an image; text beside an image follows it and leaves it room.
        room = max(limit - self.MAX_QUERY_LENGTH - places, min(limit // 2, self.MAX_QUERY_LENGTH))
        words, cut = next(self._text.ids([text], room))
        content = self._tokenizer.decode(words) if cut else text
        ids = self._ids(f"**Document**:\n{_image(places)}{content}\n**Query**:\n{query}")
        whole = len(ids)
        # The row is never cut inside the image.
        start = ids.index(self._pad) if places else 0
        ids = ids[: max(limit - 1, start + places)]
        return [*ids, self.SCORE_TOKEN], cut or len(ids) < whole

    def _read(self, hidden: torch.Tensor) -> torch.Tensor:
        first, first_bias, second, second_bias = self._head
        inner = torch.relu(hidden @ first.T + first_bias)
        return torch.nn.functional.linear(inner, second, second_bias)[:, 0] - self.LOGIT_BIAS


def _image(places: int) -> str:
    return f"<|vision_start|>{PAD * places}<|vision_end|>" if places else ""


def _plain(text: str) -> str:
    """Remove placeholders, which would be taken for images that do not exist."""
    # Replaced by a space, because joining the text around it could form another placeholder.
    return PLACEHOLDER.sub(" ", text)


def _saved_processor(checkpoint: Checkpoint) -> Mapping[str, Any]:
    """The image processor's settings, which transformers 5 saves inside the processor's."""
    alone: Mapping[str, Any] | None = checkpoint.part_json("preprocessor_config.json")
    if alone is not None:
        return alone
    whole: Mapping[str, Any] = checkpoint.part_json("processor_config.json") or {}
    return whole.get("image_processor") or {}
