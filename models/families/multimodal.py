"""Rerankers that read images: Qwen3-VL-Reranker and jina-reranker-m0.

Qwen3-VL-Reranker: scripts/qwen3_vl_reranker.py of QwenLM/Qwen3-VL-Embedding.
jina-reranker-m0: modeling.py of jinaai/jina-reranker-m0.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch

from models.checkpoint import Checkpoint
from models.engines import engine_for
from models.families.base import Family
from models.images import ImageDocument, decode
from models.types import (
    DEFAULTS,
    Encoded,
    ModelLoadError,
    Patches,
    Score,
    ScoreOptions,
    TokenRow,
)

IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"
PAD = "<|image_pad|>"


def matches(checkpoint: Checkpoint) -> bool:
    known = ("Qwen3VLForConditionalGeneration", "JinaVLForRanking")
    return any(name in known for name in checkpoint.architectures)


def load(checkpoint: Checkpoint) -> Multimodal:
    """The family's class for the checkpoint."""
    return (JinaM0 if "JinaVLForRanking" in checkpoint.architectures else Qwen3VL)(checkpoint)


class Multimodal(Family):
    """A vision-language decoder, read at the last position of its prompt."""

    def _setup(
        self, checkpoint: Checkpoint, module: Any, *, pixels: tuple[int, int], **info: Any
    ) -> None:
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import (
            Qwen2VLImageProcessorPil,
        )

        module.config.get_text_config().use_cache = False
        vision = module.config.vision_config
        self._merged = int(vision.spatial_merge_size) ** 2
        saved = checkpoint.json("preprocessor_config.json") or {}
        kept = ("image_mean", "image_std", "patch_size", "temporal_patch_size", "merge_size")
        self._images = Qwen2VLImageProcessorPil(
            size={"shortest_edge": pixels[0], "longest_edge": pixels[1]},
            **{name: saved[name] for name in kept if name in saved},
        )
        self._pad = checkpoint.tokenizer.convert_tokens_to_ids(PAD)
        if self._pad is None or self._pad == checkpoint.tokenizer.unk_token_id:
            raise ModelLoadError(f"{checkpoint.spec.source!r}: its tokenizer has no token {PAD!r}")
        engine = engine_for(checkpoint, module, "last_token", types="mm_token_type_ids")
        super().__init__(
            checkpoint,
            engine,
            family="multimodal",
            activation="sigmoid",
            takes_images=True,
            **info,
        )

    @abstractmethod
    def _row(self, query: str, text: str, image: bool, instruction: str) -> tuple[list[int], bool]:
        """The prompt's tokens, with one token for the image, and whether anything was cut."""

    @abstractmethod
    def _read(self, hidden: torch.Tensor) -> torch.Tensor:
        """Raw scores [rows] of hidden states [rows, hidden]."""

    def encode(
        self,
        query: str,
        documents: Sequence[str | ImageDocument],
        options: ScoreOptions = DEFAULTS,
    ) -> Encoded:
        """One row for each document. Raises ImageError for an image that can't be read."""
        asked = self._clean(query)
        instruction = options.instruction or self.info.instruction or ""
        rows, cut = [], []
        for document in documents:
            text = document if isinstance(document, str) else document.text
            patches = None if isinstance(document, str) else self._patches(document)
            ids, was_cut = self._row(asked, self._clean(text), patches is not None, instruction)
            rows.append(self._with_image(ids, patches))
            cut.append(was_cut)
        return Encoded(rows, [len(row) for row in rows], cut)

    def _patches(self, document: ImageDocument) -> Patches:
        made = self._images(images=[decode(document)], return_tensors="pt")
        return Patches(made["pixel_values"], tuple(made["image_grid_thw"][0].tolist()))

    def _with_image(self, ids: list[int], patches: Patches | None) -> TokenRow:
        if patches is None:
            return TokenRow(ids, [0] * len(ids))
        # Markers that stand in a text are not places for images.
        place = ids.index(self._pad)
        count = len(patches.pixels) // self._merged
        whole = [*ids[:place], *[self._pad] * count, *ids[place + 1 :]]
        types = [0] * place + [1] * count + [0] * (len(ids) - place - 1)
        return TokenRow(whole, types, images=(patches,))

    def forward(self, batch: Sequence[Encoded]) -> list[list[Score]]:
        rows = [row for encoded in batch for row in encoded.rows]
        if not rows:
            return [[] for _ in batch]
        values = iter(self._read(torch.stack(self._engine.run(rows))).tolist())
        return [self._scores([next(values) for _ in e.rows], e) for e in batch]


class Qwen3VL(Multimodal):
    """The raw score is logit(yes) - logit(no), as with Qwen3-Reranker."""

    SYSTEM = (
        "Judge whether the Document meets the requirements based on the Query and the Instruct "
        'provided. Note that the answer can only be "yes" or "no".'
    )
    INSTRUCTION = "Given a search query, retrieve relevant candidates that answer the query."
    SUFFIX = "<|im_end|>\n<|im_start|>assistant\n"
    MAX_LENGTH = 8192
    PIXELS = (4 * 32 * 32, 1280 * 32 * 32)

    def __init__(self, checkpoint: Checkpoint) -> None:
        from transformers import Qwen3VLForConditionalGeneration

        module = checkpoint.module(Qwen3VLForConditionalGeneration)
        vocabulary = checkpoint.tokenizer.get_vocab()
        if "yes" not in vocabulary or "no" not in vocabulary:
            raise ModelLoadError(f"{checkpoint.spec.source!r}: no tokens for yes and no")
        weight = module.get_output_embeddings().weight.detach().float()
        self._head = weight[vocabulary["yes"]] - weight[vocabulary["no"]]
        self._setup(
            checkpoint,
            module.model,
            pixels=self.PIXELS,
            max_length=checkpoint.spec.max_length or self.MAX_LENGTH,
            template="qwen3-vl",
            takes_instruction=True,
            instruction=checkpoint.spec.instruction or self.INSTRUCTION,
        )
        self._suffix = self._ids(self.SUFFIX)
        self._special = set(checkpoint.tokenizer.all_special_ids)

    def _row(self, query: str, text: str, image: bool, instruction: str) -> tuple[list[int], bool]:
        document = (IMAGE if image else "") + _plain(text)
        prompt = (
            f"<|im_start|>system\n{self.SYSTEM}<|im_end|>\n<|im_start|>user\n"
            f"<Instruct>: {instruction}<Query>:{_plain(query)}\n<Document>:{document or 'NULL'}"
        )
        ids = self._ids(prompt)
        if len(ids) <= self.info.max_length:
            return ids + self._suffix, False
        # The script keeps all special tokens, and of the others as many as there is room for.
        room = self.info.max_length - sum(i in self._special for i in ids)
        kept = []
        for i in ids:
            room -= i not in self._special
            if i in self._special or room >= 0:
                kept.append(i)
        return kept + self._suffix, True

    def _read(self, hidden: torch.Tensor) -> torch.Tensor:
        return torch.mv(hidden, self._head)


class JinaM0(Multimodal):
    """The raw score is the head's output less the bias that modeling.py takes off."""

    LOGIT_BIAS = 2.65
    SCORE_TOKEN = 100
    MAX_LENGTH = 10240
    MAX_QUERY_LENGTH = 512
    PIXELS = (3136, 602112)

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
            pixels=self.PIXELS,
            max_length=checkpoint.spec.max_length or self.MAX_LENGTH,
            template="jina-m0",
        )

    def _row(self, query: str, text: str, image: bool, instruction: str) -> tuple[list[int], bool]:
        limit = self.info.max_length
        room = max(limit - self.MAX_QUERY_LENGTH, min(limit // 2, self.MAX_QUERY_LENGTH))
        words = self._ids(_plain(text))
        cut = len(words) > room
        content = self._tokenizer.decode(words[:room]) if cut else _plain(text)
        # The reference knows either; text beside an image stands after it.
        document = (IMAGE if image else "") + content
        ids = self._ids(f"**Document**:\n{document}\n**Query**:\n{_plain(query)}")
        whole = len(ids)
        ids = ids[: limit - 1]
        return [*ids, self.SCORE_TOKEN], cut or len(ids) < whole

    def _read(self, hidden: torch.Tensor) -> torch.Tensor:
        first, first_bias, second, second_bias = self._head
        inner = torch.relu(hidden @ first.T + first_bias)
        return torch.nn.functional.linear(inner, second, second_bias)[:, 0] - self.LOGIT_BIAS


def _plain(text: str) -> str:
    """A placeholder in a text would be taken for an image that is not there."""
    return text.replace(PAD, "").replace("<|video_pad|>", "")
