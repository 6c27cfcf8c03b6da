"""Cross-encoders: query and document in one row, one logit out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from models.engines.torch_engine import TorchEngine
from models.text import normalize, well_formed
from models.types import (
    Activation,
    Encoded,
    ModelInfo,
    ModelLoadError,
    ModelSpec,
    Score,
    ScoringError,
    TokenRow,
)

# Model types outside RoBERTa's name that count positions as it does.
_OFFSET_TYPES = {"camembert", "mpnet", "longformer", "data2vec-text"}


def activation_of(config: Any, saved: Mapping[str, Any] | None = None) -> Activation:
    """The checkpoint's own activation, as sentence-transformers' CrossEncoder reads it.

    `saved` is config_sentence_transformers.json, where its version 6 writes it; version 4 wrote
    it into config.json, earlier ones there under a longer name.
    """
    newer = getattr(config, "sentence_transformers", None) or {}
    older = getattr(config, "sbert_ce_default_activation_function", None)
    named = (saved or {}).get("activation_fn") or newer.get("activation_fn") or older
    if named is None or str(named).endswith("Sigmoid"):
        return "sigmoid"
    if str(named).endswith("Identity"):
        return "identity"
    raise ModelLoadError(f"the checkpoint's activation {named!r} is neither Sigmoid nor Identity")


def position_limit(config: Any) -> int | None:
    """Tokens that the checkpoint has positions for; RoBERTa's kind begins after the pad index."""
    positions = getattr(config, "max_position_embeddings", None)
    if positions is None:
        return None
    shifted = "roberta" in config.model_type or config.model_type in _OFFSET_TYPES
    # MPNet fixes its pad index to 1 whatever the config says.
    pad = 1 if config.model_type == "mpnet" else config.pad_token_id
    offset = pad + 1 if shifted else 0
    return int(positions) - offset


def max_length_of(spec: ModelSpec, tokenizer: Any, config: Any, default: int | None = None) -> int:
    """The row length in tokens. Raises ModelLoadError for one beyond the model's positions."""
    limit = position_limit(config)
    if spec.max_length is not None:
        if limit is not None and spec.max_length > limit:
            raise ModelLoadError(
                f"{spec.name}: a max_length of {spec.max_length} is beyond the model's {limit} "
                "positions; lower RERANKER_MAX_LENGTH"
            )
        return spec.max_length
    own = default or int(min(tokenizer.model_max_length, 10**6))
    return min(own, limit) if limit is not None else min(own, 8192)


class CrossEncoder:
    """A sequence-classification checkpoint with one label."""

    def __init__(
        self,
        spec: ModelSpec,
        module: Any,
        tokenizer: Any,
        source: str,
        revision: str,
        saved: Mapping[str, Any] | None = None,
    ) -> None:
        labels = module.config.num_labels
        if labels != 1:
            raise ModelLoadError(
                f"{source} has {labels} labels; a reranker needs a head with one label"
            )
        self._tokenizer = tokenizer
        self._engine = TorchEngine(
            module, spec, pad_token_id=tokenizer.pad_token_id or 0, output="logits"
        )
        self._info = ModelInfo(
            name=spec.name,
            source=source,
            revision=revision,
            family="cross-encoder",
            backend="torch",
            device=str(self._engine.device),
            dtype=str(self._engine.dtype).removeprefix("torch."),
            max_length=max_length_of(spec, tokenizer, module.config),
            activation=activation_of(module.config, saved),
            normalize_text=bool(spec.normalize_text),
            token_budget=self._engine.token_budget,
        )

    @property
    def info(self) -> ModelInfo:
        return self._info

    def encode(self, query: str, documents: Sequence[str]) -> Encoded:
        """One row for each document; the longer of the two texts is cut first."""
        if not documents:
            return Encoded([], [], [])
        clean = normalize if self._info.normalize_text else well_formed
        full = self._tokenizer(
            [clean(query)] * len(documents),
            [clean(document) for document in documents],
            truncation="longest_first",
            max_length=self._info.max_length,
            return_overflowing_tokens=False,
        )
        types = full.get("token_type_ids")
        rows = [
            TokenRow(ids, types[i] if types is not None else None)
            for i, ids in enumerate(full["input_ids"])
        ]
        # The fast tokenizer keeps what it cut off beside each encoding.
        cut = [bool(encoding.overflowing) for encoding in full.encodings]
        return Encoded(rows, [len(row) for row in rows], cut)

    def forward(self, batch: Sequence[Encoded]) -> list[list[Score]]:
        """Scores of each encoded request. Raises ScoringError for a logit that is not finite."""
        outputs = iter(self._engine.run([row for encoded in batch for row in encoded.rows]))
        scores: list[list[Score]] = []
        for encoded in batch:
            logits = [float(next(outputs)[0]) for _ in encoded.rows]
            if not all(map(math.isfinite, logits)):
                raise ScoringError(
                    f"{self._info.name} gave a logit that is not finite; try "
                    "RERANKER_QUANTIZATION=fp32, or check the checkpoint's weights"
                )
            parts = zip(logits, encoded.tokens, encoded.truncated, strict=True)
            scores.append([Score(*part) for part in parts])
        return scores

    def score(self, query: str, documents: Sequence[str]) -> list[Score]:
        return self.forward([self.encode(query, documents)])[0]
