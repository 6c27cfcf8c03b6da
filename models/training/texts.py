"""The texts of a batch, read from its features, and which of them are related."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from sentence_transformers.sentence_transformer.data_collator import (
    SentenceTransformerDataCollator,
)

TEXTS = "texts"


class TextCollator(SentenceTransformerDataCollator):
    """The trainer's collator, which also keeps the texts of each column.

    With it the guide reads the dataset's texts, and the pairs in the service's score store are the
    same that other clients send. Without it the loss decodes the tokens, which may be truncated
    or lower-cased and include the prompt, if there is one.
    """

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, Any]:
        batch: dict[str, Any] = super().__call__(features)
        for name, first in features[0].items() if features else ():
            if isinstance(first, str) and f"{name}_input_ids" in batch:
                batch[f"{name}_{TEXTS}"] = [row[name] for row in features]
        return batch


def texts_of(features: dict[str, Any], tokenizer: Any) -> list[str]:
    """A column's texts: those kept by the collator, else its decoded tokens.

    Raises ValueError if there are neither texts nor token ids (images, audio).
    """
    if TEXTS in features:
        return list(features[TEXTS])
    if "input_ids" not in features or tokenizer is None:
        raise ValueError(
            "the guide needs text columns, but a column has no input_ids; train on text, or "
            "pass TextCollator as the trainer's data_collator"
        )
    ids: Any = features["input_ids"]
    if "cu_seq_lens_q" in features:
        # Flattened for flash attention: the rows are concatenated.
        bounds = features["cu_seq_lens_q"].tolist()
        flat = ids.flatten().tolist()
        ids = [flat[a:b] for a, b in pairwise(bounds)]
    return list(tokenizer.batch_decode(ids, skip_special_tokens=True))


@dataclass(frozen=True, slots=True)
class BatchTexts:
    """The distinct texts of a batch, and their positions in it as indices into `texts`.

    The first `queries` texts are the anchors and positives of this process's rows.
    `anchors` [rows] are this process's; each of `columns` is [columns], positives first, of all
    processes if they are gathered. Row i's positive is at `offset` + i in its column.
    `related` is bool [rows, texts]: texts that must not be negatives of a row, namely its own
    texts, other positives of its anchor, and other anchors of its positive.
    """

    texts: list[str]
    queries: int
    anchors: torch.Tensor
    columns: list[torch.Tensor]
    related: torch.Tensor
    offset: int

    @property
    def positives(self) -> torch.Tensor:
        """Each row's own positive: [rows]."""
        return self.columns[0][self.offset : self.offset + len(self.anchors)]


def index_texts(columns: Sequence[Sequence[str]], offset: int, rows: int) -> BatchTexts:
    """Index a batch whose columns are anchors, positives and any number of negatives."""
    ids: dict[str, int] = {}
    own = slice(offset, offset + rows)
    for text in (*columns[0][own], *columns[1][own]):
        ids.setdefault(text, len(ids))
    queries = len(ids)
    indexed = [[ids.setdefault(text, len(ids)) for text in column] for column in columns]
    of_anchor: defaultdict[int, set[int]] = defaultdict(set)
    of_positive: defaultdict[int, set[int]] = defaultdict(set)
    for anchor, positive in zip(indexed[0], indexed[1], strict=True):
        of_anchor[anchor] |= {anchor, positive}
        of_positive[positive] |= {anchor, positive}
    related = torch.zeros(rows, len(ids), dtype=torch.bool)
    for row, (anchor, positive) in enumerate(zip(indexed[0][own], indexed[1][own], strict=True)):
        related[row, list(of_anchor[anchor] | of_positive[positive])] = True
    return BatchTexts(
        list(ids),
        queries,
        torch.tensor(indexed[0][own], dtype=torch.long),
        [torch.tensor(column, dtype=torch.long) for column in indexed[1:]],
        related,
        offset,
    )
