"""ColBERT checkpoints: projected token embeddings, query augmentation, no punctuation.

Khattab and Zaharia, "ColBERT" (SIGIR 2020); Santhanam et al., "ColBERTv2" (NAACL 2022). Supports
Stanford's layout (architecture HF_ColBERT, artifact.metadata) and PyLate's (a sentence-transformers
folder with dense layers and no pooling).
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from models.checkpoint import Checkpoint
from models.engines import engine_for
from models.families.bi_encoder import Layer, dense, encoder_settings
from models.families.embedding import Embedding
from models.families.late_interaction import maxsim
from models.lengths import position_limit
from models.representations import Representation
from models.types import ModelLoadError, TokenRow


@dataclass(frozen=True, slots=True)
class ColBERTConfig:
    """A checkpoint's settings. Lengths are in tokens, including marker and special tokens."""

    query_marker: str | None
    document_marker: str | None
    query_length: int
    document_length: int
    expand_query: bool
    attend_to_expansion: bool
    skipped: tuple[str, ...]


def matches(checkpoint: Checkpoint) -> bool:
    modules = checkpoint.modules
    saved = checkpoint.json("config_sentence_transformers.json") or {}
    pylate = modules[:1] == ("Transformer",) and set(modules[1:]) == {"Dense"}
    pylate = pylate and saved.get("model_type") != "CrossEncoder"
    return "HF_ColBERT" in checkpoint.architectures or pylate


def config_of(checkpoint: Checkpoint) -> ColBERTConfig:
    """The settings in the folder's files, completed by the defaults of the two libraries."""
    punctuation = tuple(string.punctuation)
    if not checkpoint.modules:
        saved: Mapping[str, Any] = checkpoint.json("artifact.metadata") or {}
        return ColBERTConfig(
            query_marker=saved.get("query_token_id", "[unused0]"),
            document_marker=saved.get("doc_token_id", "[unused1]"),
            query_length=saved.get("query_maxlen", 32),
            document_length=saved.get("doc_maxlen", 220),
            expand_query=True,
            attend_to_expansion=bool(saved.get("attend_to_mask_tokens")),
            skipped=punctuation if saved.get("mask_punctuation", True) else (),
        )
    saved = checkpoint.json("config_sentence_transformers.json") or {}
    expand = _given(saved, "do_query_expansion", True)
    return ColBERTConfig(
        query_marker=_given(saved, "query_prefix", "[Q] ") or None,
        document_marker=_given(saved, "document_prefix", "[D] ") or None,
        query_length=_given(saved, "query_length", 32),
        document_length=_given(saved, "document_length", 180),
        expand_query=expand,
        attend_to_expansion=expand and _given(saved, "attend_to_expansion_tokens", False),
        skipped=tuple(_given(saved, "skiplist_words", punctuation)),
    )


def _given(saved: Mapping[str, Any], name: str, default: Any) -> Any:
    value = saved.get(name)
    return default if value is None else value


class ColBERT(Embedding):
    """The raw score is ColBERT's, divided by the number of query vectors."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        from transformers import AutoModel

        self._config = config = config_of(checkpoint)
        self._projections = _projections(checkpoint)
        encoder_settings(checkpoint)  # for lower case only; its maximum length does not apply
        length = checkpoint.spec.max_length or config.document_length
        limit = position_limit(checkpoint.config)
        if limit is not None and max(length, config.query_length) > limit:
            raise ModelLoadError(
                f"{checkpoint.spec.name}: a row of {max(length, config.query_length)} tokens "
                f"exceeds the model's {limit} positions; lower RERANKER_MAX_LENGTH"
            )
        super().__init__(
            checkpoint,
            engine_for(
                checkpoint,
                partial(checkpoint.module, AutoModel, may_lack=("pooler",)),
                output="last_hidden_state",
                portable=True,
            ),
            family="late-interaction",
            max_length=length,
            activation="clamp",
            detail="colbert",
        )
        vocabulary = checkpoint.tokenizer.get_vocab()
        self._markers = [
            None if word is None else _marker(checkpoint, vocabulary, word)
            for word in (config.query_marker, config.document_marker)
        ]
        self._skipped = {vocabulary[word] for word in config.skipped if word in vocabulary}
        self._filler = _filler(checkpoint)

    def _query_row(self, query: str) -> tuple[TokenRow, bool]:
        """The query, filled up with mask tokens if the checkpoint expands queries."""
        asked = self._config
        queries, cut = self._rows([query], self._markers[0], asked.query_length)
        start = queries[0]
        missing = asked.query_length - len(start) if asked.expand_query else 0
        if missing > 0:
            ids = [*start.input_ids, *[self._filler] * missing]
            types = None if start.type_ids is None else [*start.type_ids, *[0] * missing]
            attended = None if asked.attend_to_expansion else len(start)
            start = TokenRow(ids, types, attended)
        return start, cut[0]

    def _document_rows(self, documents: Sequence[str]) -> tuple[list[TokenRow], list[bool]]:
        return self._rows(documents, self._markers[1], self.info.max_length)

    def _rows(
        self, texts: Sequence[str], marker: int | None, length: int
    ) -> tuple[list[TokenRow], list[bool]]:
        room = length - (marker is not None)
        rows, cut = self._tokenize(texts, room)
        if marker is None:
            return rows, cut
        marked = [
            TokenRow(
                [*row.input_ids[:1], marker, *row.input_ids[1:]],
                None if row.type_ids is None else [0, *row.type_ids],
            )
            for row in rows
        ]
        return marked, cut

    def _embed_query(self, output: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(self._project(output), dim=-1)

    def _represent(self, output: torch.Tensor, row: TokenRow, truncated: bool) -> Representation:
        kept = self._keep(self._embed_query(output), row.input_ids)
        return self._documents.make(kept, tokens=len(row), truncated=truncated)

    def _compare(self, query: torch.Tensor, documents: Sequence[Representation]) -> torch.Tensor:
        return maxsim(query, [document.vectors for document in documents])

    def _keep(self, vectors: torch.Tensor, ids: Sequence[int]) -> torch.Tensor:
        kept = [i not in self._skipped for i in ids]
        # Nothing may be left without marker and special tokens, but MaxSim needs a vector.
        return vectors[kept] if any(kept) else vectors

    def _project(self, tokens: torch.Tensor) -> torch.Tensor:
        for projection in self._projections:
            tokens = projection(tokens)
        return tokens


def _projections(checkpoint: Checkpoint) -> list[Layer]:
    if checkpoint.modules:
        return [
            dense(checkpoint, folder, checkpoint.json(f"{folder}/config.json") or {})
            for _, folder in checkpoint.parts[1:]
        ]
    weight = checkpoint.weights().get("linear.weight")
    if weight is None:
        raise ModelLoadError(f"{checkpoint.spec.source!r} lacks ColBERT's linear.weight")
    projection = weight.float()
    return [lambda tokens: tokens @ projection.T]


def _marker(checkpoint: Checkpoint, vocabulary: Mapping[str, int], word: str) -> int:
    if word not in vocabulary:
        raise ModelLoadError(
            f"{checkpoint.spec.source!r}: its tokenizer has no token for the marker {word!r}"
        )
    return vocabulary[word]


def _filler(checkpoint: Checkpoint) -> int:
    """The mask token, or the token that PyLate uses in its place."""
    tokenizer = checkpoint.tokenizer
    ids = (tokenizer.mask_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    found = next((i for i in ids if i is not None), None)
    if found is None:
        raise ModelLoadError(f"{checkpoint.spec.source!r}: its tokenizer has no mask token")
    return int(found)
