"""Late interaction: tokens of query and document are embedded apart and meet in MaxSim.

Khattab and Zaharia, "ColBERT" (SIGIR 2020), section 3.3; here on a plain encoder, and the
mean over query tokens in place of the sum, so that scores of long and short queries compare.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from models.engines.torch_engine import TorchEngine
from models.families.cross_encoder import max_length_of
from models.text import normalize, well_formed
from models.types import Encoded, ModelInfo, ModelSpec, Score, ScoringError, TokenRow


class LateInteraction:
    """An encoder's token embeddings, compared by MaxSim of cosines."""

    def __init__(
        self,
        spec: ModelSpec,
        module: Any,
        tokenizer: Any,
        source: str,
        revision: str,
        max_length: int | None,
    ) -> None:
        self._tokenizer = tokenizer
        self._engine = TorchEngine(
            module, spec, pad_token_id=tokenizer.pad_token_id or 0, output="last_hidden_state"
        )
        self._info = ModelInfo(
            name=spec.name,
            source=source,
            revision=revision,
            family="late-interaction",
            backend="torch",
            device=str(self._engine.device),
            dtype=str(self._engine.dtype).removeprefix("torch."),
            max_length=max_length_of(spec, tokenizer, module.config, max_length),
            activation="clamp",
            normalize_text=spec.normalize_text is not False,
            token_budget=self._engine.token_budget,
        )

    @property
    def info(self) -> ModelInfo:
        return self._info

    def encode(self, query: str, documents: Sequence[str]) -> Encoded:
        """The query's row, then one for each document, special tokens included."""
        clean = normalize if self._info.normalize_text else well_formed
        texts = [clean(text) for text in (query, *documents)]
        full = self._tokenizer(texts, truncation=True, max_length=self._info.max_length)
        types = full.get("token_type_ids")
        rows = [
            TokenRow(ids, types[i] if types is not None else None)
            for i, ids in enumerate(full["input_ids"])
        ]
        cut = [bool(encoding.overflowing) for encoding in full.encodings]
        tokens = [len(rows[0]) + len(row) for row in rows[1:]]
        return Encoded(rows, tokens, [cut[0] or c for c in cut[1:]])

    def forward(self, batch: Sequence[Encoded]) -> list[list[Score]]:
        """Scores of each encoded request. Raises ScoringError for a score that is not finite."""
        # Chunks of one request share their query: a row is run once however often it stands.
        place: dict[tuple[int, ...], int] = {}
        unique: list[TokenRow] = []
        for row in (row for encoded in batch for row in encoded.rows):
            if place.setdefault(tuple(row.input_ids), len(unique)) == len(unique):
                unique.append(row)
        vectors = [torch.nn.functional.normalize(v, dim=-1) for v in self._engine.run(unique)]

        scores: list[list[Score]] = []
        for encoded in batch:
            query, *documents = [vectors[place[tuple(row.input_ids)]] for row in encoded.rows]
            values = maxsim(query, documents)
            if not bool(torch.isfinite(values).all()):
                raise ScoringError(
                    f"{self._info.name} gave a score that is not finite; try "
                    "RERANKER_QUANTIZATION=fp32, or check the checkpoint's weights"
                )
            parts = zip(values.tolist(), encoded.tokens, encoded.truncated, strict=True)
            scores.append([Score(*part) for part in parts])
        return scores

    def score(self, query: str, documents: Sequence[str]) -> list[Score]:
        return self.forward([self.encode(query, documents)])[0]


def maxsim(query: torch.Tensor, documents: Sequence[torch.Tensor]) -> torch.Tensor:
    """Mean over query tokens of the best cosine with a document token.

    `query` is [query tokens, hidden], each document [its tokens, hidden], all of unit length;
    the answer is [documents].
    """
    if not documents:
        return torch.empty(0)
    # One multiplication for all documents laid end to end, then a maximum by document.
    lengths = [len(document) for document in documents]
    similarity = query @ torch.cat(list(documents)).T
    best = torch.stack([part.amax(dim=1) for part in torch.split(similarity, lengths, dim=1)])
    return best.mean(dim=1)
