"""Cross-encoders: query and document in one row, read from a classification head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch

from models.checkpoint import Checkpoint
from models.engines import engine_for
from models.families.base import Family
from models.lengths import max_length_of
from models.types import DEFAULTS, Activation, Encoded, ModelLoadError, Score, ScoreOptions


def matches(checkpoint: Checkpoint) -> bool:
    return any(name.endswith("ForSequenceClassification") for name in checkpoint.architectures)


def activation_of(config: Any, saved: Mapping[str, Any] | None = None) -> Activation:
    """The checkpoint's activation, as sentence-transformers' CrossEncoder reads it.

    `saved` is config_sentence_transformers.json, which version 6 writes. Version 4 wrote the
    activation into config.json, and earlier versions did so under a longer name. Raises
    ModelLoadError for other activations than Sigmoid and Identity.
    """
    newer = getattr(config, "sentence_transformers", None) or {}
    older = getattr(config, "sbert_ce_default_activation_function", None)
    named = (saved or {}).get("activation_fn") or newer.get("activation_fn") or older
    if named is None or str(named).endswith("Sigmoid"):
        return "sigmoid"
    if str(named).endswith("Identity"):
        return "identity"
    raise ModelLoadError(f"the checkpoint's activation {named!r} is neither Sigmoid nor Identity")


def label_of(checkpoint: Checkpoint) -> int | None:
    """The index of the label that means relevant; None if the head has one label.

    Of two labels it is the second, as in monoBERT. Raises ModelLoadError if the spec names no
    label for a head with more, or names one that does not exist.
    """
    config, wanted = checkpoint.config, checkpoint.spec.label
    count = int(config.num_labels)
    if wanted is None:
        if count <= 2:
            return None if count == 1 else 1
        names = ", ".join(str(config.id2label[i]) for i in range(count))
        raise ModelLoadError(
            f"{checkpoint.spec.source!r} has {count} labels ({names}): set the model's `label` to "
            "the relevant one"
        )
    by_name = {str(name): int(i) for i, name in config.id2label.items()}
    label = by_name.get(str(wanted))
    if label is None and str(wanted).isdigit() and int(wanted) < count:
        label = int(wanted)
    if label is None:
        raise ModelLoadError(
            f"{checkpoint.spec.source!r} has no label {wanted!r}; it has {', '.join(by_name)}"
        )
    return label if count > 1 else None


class CrossEncoder(Family):
    """A sequence-classification checkpoint.

    For a head with several labels the raw score is the log-odds of the relevant label against the
    others, whose sigmoid is that label's softmax probability.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        from transformers import AutoModelForSequenceClassification

        self._label = label_of(checkpoint)
        saved = checkpoint.json("config_sentence_transformers.json")
        engine = engine_for(
            checkpoint,
            partial(checkpoint.module, AutoModelForSequenceClassification),
            output="logits",
            portable=True,
        )
        super().__init__(
            checkpoint,
            engine,
            family="cross-encoder",
            max_length=max_length_of(checkpoint),
            activation="sigmoid"
            if self._label is not None
            else activation_of(checkpoint.config, saved),
            detail="" if self._label is None else f"label {self._label}",
        )

    def encode(
        self, query: str, documents: Sequence[str], options: ScoreOptions = DEFAULTS
    ) -> Encoded:
        """One row per document; the longer of the two texts is truncated first."""
        rows, cut = self._tokenize_pairs(
            self._clean(query), [self._clean(d) for d in documents], self.info.max_length
        )
        return Encoded(rows, [len(row) for row in rows], cut)

    def forward(self, batch: Sequence[Encoded]) -> list[list[Score]]:
        outputs = iter(self._engine.run([row for encoded in batch for row in encoded.rows]))
        return [
            self._scores([self._read(next(outputs)) for _ in encoded.rows], encoded)
            for encoded in batch
        ]

    def _read(self, logits: torch.Tensor) -> float:
        if self._label is None:
            return float(logits[0])
        others = torch.cat([logits[: self._label], logits[self._label + 1 :]])
        return float(logits[self._label] - torch.logsumexp(others, 0))
