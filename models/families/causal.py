"""Decoder rerankers: a prompt asks whether the document answers the query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from models.checkpoint import Checkpoint
from models.engines import Engine, engine_for
from models.families.base import Family
from models.families.recipes import BY_MODEL_TYPE, RECIPES, Recipe
from models.lengths import position_limit
from models.types import DEFAULTS, Encoded, ModelLoadError, Score, ScoreOptions, TokenRow


def matches(checkpoint: Checkpoint) -> bool:
    """A causal language model, or a decoder with a classification head."""
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    )

    kind = checkpoint.model_type
    decoder = (
        kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and kind not in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    )
    heads = ("ForCausalLM", "ForSequenceClassification") if decoder else ("ForCausalLM",)
    return any(name.endswith(heads) for name in checkpoint.architectures)


def recipe_of(checkpoint: Checkpoint) -> Recipe:
    """The recipe named by the spec's `template`, or the one for the checkpoint's model type.

    Raises ModelLoadError if there is no such recipe.
    """
    wanted, kind = checkpoint.spec.template, checkpoint.model_type
    recipe = BY_MODEL_TYPE.get(kind) if wanted == "auto" else RECIPES.get(wanted)
    if recipe is None:
        what = f"template {wanted!r}" if wanted != "auto" else f"prompt for {kind!r}"
        raise ModelLoadError(
            f"{checkpoint.spec.source!r}: no {what} is known; set the model's `template` to one of "
            f"{', '.join(RECIPES)}"
        )
    return recipe


class Causal(Family):
    """A causal checkpoint with a recipe. The raw score is logit(yes) - logit(no)."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        recipe = recipe_of(checkpoint)
        decoder = _Decoder(checkpoint, recipe)
        engine = engine_for(checkpoint, decoder.make, output="last_token")
        head = engine.head(decoder.rows) if decoder.head is None else decoder.head
        assert head is not None  # either torch or the engine read the weights
        self._setup(checkpoint, recipe, engine, head, family="causal")

    def _setup(
        self,
        checkpoint: Checkpoint,
        recipe: Recipe,
        engine: Engine,
        head: torch.Tensor,
        **info: Any,
    ) -> None:
        """`head` is [answers, hidden]: the weights of `yes` and, if the recipe has it, `no`."""
        spec = checkpoint.spec
        instruction = spec.instruction or recipe.instruction
        # In float32 whatever the module's precision: two rows cost nothing.
        self._head = head.float()
        self._softcap = getattr(checkpoint.config, "final_logit_softcapping", None)
        self._recipe = recipe
        super().__init__(
            checkpoint,
            engine,
            max_length=spec.max_length or recipe.max_length,
            activation="sigmoid",
            template=recipe.name,
            takes_instruction=True,
            instruction=instruction,
            **info,
        )
        self._prefix = self._ids(recipe.prefix) if recipe.prefix else []
        self._separator = self._ids(recipe.separator) if recipe.separator else []
        self.info = replace(self.info, max_length=self._fitting(checkpoint))

    def _fitting(self, checkpoint: Checkpoint) -> int:
        """The maximum length, reduced if the prompt around it would exceed the positions."""
        wanted, limit = self.info.max_length, position_limit(checkpoint.config)
        around = {
            "row": 0,
            "pair": len(self._prefix) + len(self._suffix(None)),
            "pair-suffix": 2 * len(self._suffix(None)) + 1,
        }[self._recipe.limit]
        if limit is None or wanted + around <= limit:
            return wanted
        if checkpoint.spec.max_length is not None:
            raise ModelLoadError(
                f"{checkpoint.spec.name}: a max_length of {wanted} with {around} tokens of prompt "
                f"exceeds the model's {limit} positions; lower RERANKER_MAX_LENGTH"
            )
        return limit - around

    def encode(
        self, query: str, documents: Sequence[str], options: ScoreOptions = DEFAULTS
    ) -> Encoded:
        """One row per document: what follows the prompt's start and the query."""
        recipe, max_length = self._recipe, self.info.max_length
        asked = options.instruction or self.info.instruction
        pattern = recipe.query_with_instruction if asked else None
        text = (pattern or recipe.query).format(query=self._clean(query), instruction=asked)
        suffix = self._suffix(options.instruction)
        room = {
            "row": max_length - len(self._prefix) - len(suffix),
            "pair": max_length,
            "pair-suffix": max_length + len(suffix),
        }[recipe.limit]

        most = max_length * 3 // 4 if recipe.cuts_query else max(0, room)
        start, query_cut = next(self._text.ids([text], most))
        if recipe.starts_with_bos and self._tokenizer.bos_token_id is not None:
            start = [self._tokenizer.bos_token_id, *start]
        query_cut = query_cut or len(start) > max(0, room)
        start = start[: max(0, room)]
        head = tuple(self._prefix + start)
        texts = (recipe.document.format(document=self._clean(d)) for d in documents)
        rows, cut = [], []
        for body, body_cut in self._text.ids(texts, max_length):
            kept = (self._separator + body)[: max(0, room - len(start))]
            rows.append(TokenRow(kept + suffix))
            cut.append(body_cut or query_cut or len(kept) < len(self._separator) + len(body))
        tokens = [len(head) + len(row) for row in rows]
        return Encoded(rows, tokens, cut, {"head": head})

    def _suffix(self, instruction: str | None) -> list[int]:
        # A request's instruction may have any length.
        asked = instruction or self.info.instruction
        parts = (part.format(instruction=asked) for part in self._recipe.suffix)
        return [i for ids, _ in self._text.ids(parts, self.info.max_length) for i in ids]

    def forward(self, batch: Sequence[Encoded]) -> list[list[Score]]:
        # Chunks of one request share their start, whose keys and values are computed once.
        by_head: dict[tuple[int, ...], list[int]] = {}
        for i, encoded in enumerate(batch):
            by_head.setdefault(encoded.extra["head"], []).append(i)
        scores: list[list[Score]] = [[] for _ in batch]
        for head, members in by_head.items():
            rows = [row for i in members for row in batch[i].rows]
            values = iter(self._read(self._engine.run(rows, prefix=head)))
            for i in members:
                scores[i] = self._scores([next(values) for _ in batch[i].rows], batch[i])
        return scores

    def _read(self, hidden: Sequence[torch.Tensor]) -> list[float]:
        """Multiply only by the answers' rows, so that memory does not grow with the vocabulary."""
        if not hidden:
            return []
        logits = torch.stack(list(hidden)) @ self._head.T
        if self._softcap is not None:
            logits = torch.tanh(logits / self._softcap) * self._softcap
        answers = logits[:, 0] - logits[:, 1] if logits.shape[1] == 2 else logits[:, 0]
        values: list[float] = answers.tolist()
        return values


class _Decoder:
    """The decoder without its head, and the head's rows for the answers (yes, then no).

    `head` is None until `make` has loaded the weights, which not every engine asks for.
    """

    def __init__(self, checkpoint: Checkpoint, recipe: Recipe) -> None:
        self._checkpoint = checkpoint
        self.head: torch.Tensor | None = None
        self._classifies = any(
            name.endswith("ForSequenceClassification") for name in checkpoint.architectures
        )
        if not self._classifies:
            self.rows = list(_answer_ids(checkpoint, recipe).values())
            return
        labels = int(checkpoint.config.num_labels)
        if labels > 2:
            raise ModelLoadError(
                f"{checkpoint.spec.source!r} has {labels} labels; a decoder reranker has one, or "
                "two (no, yes)"
            )
        self.rows = [0] if labels == 1 else [1, 0]

    def make(self) -> Any:
        from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

        if self._classifies:
            module = self._checkpoint.module(AutoModelForSequenceClassification)
            layer = module.score
        else:
            module = self._checkpoint.module(AutoModelForCausalLM)
            layer = module.get_output_embeddings()
        self.head = layer.weight.detach()[self.rows].clone()
        return module.base_model


def _answer_ids(checkpoint: Checkpoint, recipe: Recipe) -> Mapping[str, int]:
    ids: dict[str, int] = {}
    for word in (recipe.yes, recipe.no):
        if word is not None:
            found = checkpoint.tokenizer(word, add_special_tokens=False)["input_ids"]
            if not found or found[0] == checkpoint.tokenizer.unk_token_id:
                raise ModelLoadError(
                    f"{checkpoint.spec.source!r}: its tokenizer has no token for the answer "
                    f"{word!r} of the template {recipe.name!r}"
                )
            ids[word] = int(found[0])
    return ids
