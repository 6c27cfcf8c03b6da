"""Encoder-decoders: the logits of the decoder's first token are the answer.

monoT5: Nogueira et al., "Document Ranking with a Pretrained Sequence-to-Sequence Model" (Findings
of EMNLP 2020), as in pygaggle. RankT5: Zhuang et al., "RankT5" (SIGIR 2023).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch

from models.checkpoint import Checkpoint
from models.engines import engine_for
from models.families.base import Family
from models.lengths import max_length_of
from models.types import DEFAULTS, Encoded, ModelLoadError, Score, ScoreOptions

MAX_LENGTH = 512


@dataclass(frozen=True, slots=True)
class Seq2SeqRecipe:
    """The text of a pair, and the tokens whose logits are read: `yes` and optionally `no`."""

    name: str
    text: str
    yes: str
    no: str | None


MONOT5 = Seq2SeqRecipe("monot5", "Query: {query} Document: {document} Relevant:", "▁true", "▁false")
# pygaggle's tokens for unicamp-dl/mt5-base-mmarco-v2.
MONOMT5 = Seq2SeqRecipe("monomt5", MONOT5.text, "▁yes", "▁no")
RANKT5 = Seq2SeqRecipe("rankt5", "Query: {query} Document: {document}", "<extra_id_10>", None)
RECIPES = {recipe.name: recipe for recipe in (MONOT5, MONOMT5, RANKT5)}


def matches(checkpoint: Checkpoint) -> bool:
    return any(name.endswith("T5ForConditionalGeneration") for name in checkpoint.architectures)


def recipe_of(checkpoint: Checkpoint) -> Seq2SeqRecipe:
    """The spec's template; otherwise RankT5's if the source's name says so, or else monoT5's.

    The config does not distinguish the two. Raises ModelLoadError for an unknown template.
    """
    wanted = checkpoint.spec.template
    if wanted != "auto":
        if wanted not in RECIPES:
            raise ModelLoadError(
                f"{checkpoint.spec.source!r}: no template {wanted!r} is known; set the model's "
                f"`template` to one of {', '.join(RECIPES)}"
            )
        return RECIPES[wanted]
    if "rankt5" in checkpoint.spec.source.lower():
        return RANKT5
    return MONOMT5 if checkpoint.model_type == "mt5" else MONOT5


class FirstStep(torch.nn.Module):
    """A T5 that returns the logits of a few tokens at the decoder's first step."""

    def __init__(self, module: Any, answers: Sequence[int]) -> None:
        super().__init__()
        config = module.config
        self.encoder, self.decoder = module.get_encoder(), module.get_decoder()
        self.start = int(config.decoder_start_token_id)
        # As in transformers' forward: T5 checks a flag, UMT5 tied weights, and mT5 never scales.
        tied = config.model_type != "mt5" and config.tie_word_embeddings
        scaled = bool(getattr(config, "scale_decoder_outputs", tied))
        scale = config.d_model**-0.5 if scaled else 1.0
        head = module.get_output_embeddings().weight.detach()[list(answers)].float() * scale
        # In a list, so that it stays float32 when the module is cast: two rows cost nothing.
        self._head = [head]

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
        """Logits [rows, answers]."""
        encoded = self.encoder(input_ids=input_ids, attention_mask=attention_mask)
        start = torch.full((len(input_ids), 1), self.start, device=input_ids.device)
        hidden = self.decoder(
            input_ids=start,
            encoder_hidden_states=encoded.last_hidden_state,
            encoder_attention_mask=attention_mask,
            use_cache=False,
        ).last_hidden_state[:, 0]
        return SimpleNamespace(logits=hidden.float() @ self._head[0].to(hidden.device).T)


class Seq2Seq(Family):
    """The raw score is logit(yes) - logit(no), or logit(yes) if the recipe has no `no`."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        from transformers import AutoModelForSeq2SeqLM

        self._recipe = recipe_of(checkpoint)
        answers = _answer_ids(checkpoint, self._recipe)
        module = FirstStep(checkpoint.module(AutoModelForSeq2SeqLM), answers)
        own = min(int(checkpoint.tokenizer.model_max_length), MAX_LENGTH)
        super().__init__(
            checkpoint,
            engine_for(checkpoint, lambda: module, output="logits"),
            family="seq2seq",
            max_length=max_length_of(checkpoint, own),
            activation="sigmoid",
            template=self._recipe.name,
        )

    def encode(
        self, query: str, documents: Sequence[str], options: ScoreOptions = DEFAULTS
    ) -> Encoded:
        """One row per document: the pair's text, truncated at its end as in the references."""
        asked = self._clean(query)
        before, after = self._recipe.text.split("{document}")
        start, query_fills_row = self._text.head(before.format(query=asked), self.info.max_length)
        if query_fills_row:
            rows, cut = self._tokenize([start], self.info.max_length)
            rows, cut = rows * len(documents), cut * len(documents)
        else:
            # Made one at a time: together they would hold the query once per document.
            texts = (f"{start}{self._clean(document)}{after}" for document in documents)
            rows, cut = self._tokenize(texts, self.info.max_length)
        return Encoded(rows, [len(row) for row in rows], cut)

    def forward(self, batch: Sequence[Encoded]) -> list[list[Score]]:
        outputs = iter(self._engine.run([row for encoded in batch for row in encoded.rows]))
        scores: list[list[Score]] = []
        for encoded in batch:
            logits = [next(outputs).tolist() for _ in encoded.rows]
            values = [row[0] - row[1] if len(row) == 2 else row[0] for row in logits]
            scores.append(self._scores(values, encoded))
        return scores


def _answer_ids(checkpoint: Checkpoint, recipe: Seq2SeqRecipe) -> list[int]:
    vocabulary = checkpoint.tokenizer.get_vocab()
    words = [word for word in (recipe.yes, recipe.no) if word is not None]
    missing = [word for word in words if word not in vocabulary]
    if missing:
        raise ModelLoadError(
            f"{checkpoint.spec.source!r}: its tokenizer has no token {missing[0]!r}, which the "
            f"template {recipe.name!r} reads; set the model's `template` to one of "
            f"{', '.join(RECIPES)}"
        )
    return [int(vocabulary[word]) for word in words]
