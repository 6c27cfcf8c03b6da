"""Late interaction: query and document tokens are embedded separately and compared by MaxSim.

Khattab and Zaharia, "ColBERT" (SIGIR 2020), section 3.3. Here on a plain encoder, and with the
mean over query tokens instead of the sum, so that scores of long and short queries are comparable.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch

from models.checkpoint import Checkpoint
from models.engines import engine_for
from models.families.embedding import Embedding
from models.lengths import max_length_of
from models.representations import Representation
from models.types import EMBEDDED, TokenRow


def matches(checkpoint: Checkpoint) -> bool:
    """Only the embedded model; other sentence-transformers encoders are bi-encoders."""
    return checkpoint.spec.source == EMBEDDED


class LateInteraction(Embedding):
    """An encoder's token embeddings, compared by MaxSim with cosines."""

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

    def _query_row(self, query: str) -> tuple[TokenRow, bool]:
        rows, cut = self._document_rows([query])
        return rows[0], cut[0]

    def _document_rows(self, documents: Sequence[str]) -> tuple[list[TokenRow], list[bool]]:
        return self._tokenize(documents, self.info.max_length)

    def _embed_query(self, output: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(output, dim=-1)

    def _represent(self, output: torch.Tensor, row: TokenRow, truncated: bool) -> Representation:
        vectors = torch.nn.functional.normalize(output, dim=-1)
        return self._documents.make(vectors, tokens=len(row), truncated=truncated)

    def _compare(self, query: torch.Tensor, documents: Sequence[Representation]) -> torch.Tensor:
        return maxsim(query, [document.vectors for document in documents])


def maxsim(query: torch.Tensor, documents: Sequence[torch.Tensor]) -> torch.Tensor:
    """The mean over query tokens of the best cosine with a document token; [documents].

    `query` is float32 [query tokens, hidden], each document [tokens, hidden]; all vectors have
    unit length.
    """
    if not documents:
        return torch.empty(0)
    # One multiplication for all documents end to end, then a maximum per document.
    lengths = [len(document) for document in documents]
    similarity = query @ torch.cat(list(documents)).float().T
    best = torch.stack([part.amax(dim=1) for part in torch.split(similarity, lengths, dim=1)])
    return best.mean(dim=1)
