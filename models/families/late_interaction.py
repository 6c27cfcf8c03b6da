"""Late interaction: tokens of query and document are embedded apart and meet in MaxSim.

Khattab and Zaharia, "ColBERT" (SIGIR 2020), section 3.3; here on a plain encoder, and the
mean over query tokens in place of the sum, so that scores of long and short queries compare.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch

from models.checkpoint import Checkpoint
from models.engines import engine_for
from models.families.base import Family
from models.families.lengths import max_length_of
from models.types import DEFAULTS, EMBEDDED, Encoded, Score, ScoreOptions


def matches(checkpoint: Checkpoint) -> bool:
    """The embedded model; other sentence-transformers encoders are bi-encoders first."""
    return checkpoint.spec.source == EMBEDDED


class LateInteraction(Family):
    """An encoder's token embeddings, compared by MaxSim of cosines."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        from transformers import AutoModel

        saved = checkpoint.part_json("sentence_bert_config.json") or {}
        module = partial(checkpoint.module, AutoModel, may_lack=("pooler",))
        super().__init__(
            checkpoint,
            engine_for(checkpoint, module, output="last_hidden_state", portable=True),
            family="late-interaction",
            max_length=max_length_of(checkpoint, saved.get("max_seq_length")),
            activation="clamp",
            normalize_text=True,
        )

    def encode(
        self, query: str, documents: Sequence[str], options: ScoreOptions = DEFAULTS
    ) -> Encoded:
        """The query's row, then one for each document, special tokens included."""
        texts = [self._clean(text) for text in (query, *documents)]
        rows, cut = self._tokenize(texts, truncation=True, max_length=self.info.max_length)
        tokens = [len(rows[0]) + len(row) for row in rows[1:]]
        return Encoded(rows, tokens, [cut[0] or c for c in cut[1:]])

    def forward(self, batch: Sequence[Encoded]) -> list[list[Score]]:
        outputs = self._engine.run_once([row for encoded in batch for row in encoded.rows])
        vectors = (torch.nn.functional.normalize(output, dim=-1) for output in outputs)
        scores: list[list[Score]] = []
        for encoded in batch:
            query, *documents = [next(vectors) for _ in encoded.rows]
            scores.append(self._scores(maxsim(query, documents).tolist(), encoded))
        return scores


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
