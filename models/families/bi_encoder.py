"""Bi-encoders: query and document are embedded apart, each as one vector.

A folder of sentence-transformers (Reimers and Gurevych, "Sentence-BERT", EMNLP 2019): an encoder,
a pooling of its token embeddings, dense layers and normalisation where the folder has them, and
the prompts that its config names for queries and documents.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from tokenizers import normalizers

from models.checkpoint import Checkpoint
from models.engines import engine_for
from models.families.embedding import Embedding
from models.lengths import max_length_of
from models.representations import Representation
from models.types import (
    DEFAULTS,
    EMBEDDED,
    Activation,
    Encoded,
    ModelLoadError,
    ScoreOptions,
    TokenRow,
)
from models.vectors import Vectors

Layer = Callable[[torch.Tensor], torch.Tensor]

# [tokens, hidden] of one text to [hidden], by sentence-transformers' names.
POOLINGS: dict[str, Layer] = {
    "cls": lambda tokens: tokens[0],
    "max": lambda tokens: tokens.amax(dim=0),
    "mean": lambda tokens: tokens.mean(dim=0),
    "mean_sqrt_len_tokens": lambda tokens: tokens.sum(dim=0) / len(tokens) ** 0.5,
    "weightedmean": lambda tokens: _weighted_mean(tokens),
    "lasttoken": lambda tokens: tokens[-1],
}
# How versions before 6 wrote them, in the order in which several are joined.
_OLD_NAMES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
# The encoder's settings; the first name is today's, early versions named the file by the model.
_SETTINGS = tuple(
    f"sentence_{kind}_config.json"
    for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
_ACTIVATIONS: dict[str, Layer] = {
    "Identity": lambda x: x,
    "Tanh": torch.tanh,
    "ReLU": torch.relu,
    "GELU": torch.nn.functional.gelu,
    "SiLU": torch.nn.functional.silu,
    "Sigmoid": torch.sigmoid,
}


def matches(checkpoint: Checkpoint) -> bool:
    """A folder that pools; a CrossEncoder of sentence-transformers 6 may pool too."""
    if "Pooling" not in checkpoint.modules or checkpoint.spec.source == EMBEDDED:
        return False
    saved = checkpoint.json("config_sentence_transformers.json") or {}
    return bool(saved.get("model_type", "SentenceTransformer") == "SentenceTransformer")


def _weighted_mean(tokens: torch.Tensor) -> torch.Tensor:
    weights = torch.arange(1, len(tokens) + 1, dtype=tokens.dtype)
    return (weights @ tokens) / weights.sum()


class BiEncoder(Embedding):
    """The raw score is the similarity that the folder names: cosine, or dot product."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        from transformers import AutoModel

        saved = checkpoint.json("config_sentence_transformers.json") or {}
        similarity = saved.get("similarity_fn_name") or "cosine"
        if similarity not in ("cosine", "dot"):
            raise ModelLoadError(
                f"{checkpoint.spec.source!r} compares by {similarity!r}; cosine and dot are known"
            )
        prompts = saved.get("prompts") or {}
        # SentenceTransformer adds an empty `document` where it is not named, and so never comes
        # to the other names that its encode_document would take, `passage` and `corpus`.
        self._query_prompt = prompts.get("query") or ""
        self._document_prompt = prompts.get("document") or ""
        self._layers = list(_layers(checkpoint))
        if similarity == "cosine":
            self._layers.append(lambda x: torch.nn.functional.normalize(x, dim=-1))
        activation: Activation = "clamp" if similarity == "cosine" else "identity"
        length = encoder_settings(checkpoint).get("max_seq_length")
        super().__init__(
            checkpoint,
            engine_for(
                checkpoint,
                partial(checkpoint.module, AutoModel, may_lack=("pooler",)),
                output="last_hidden_state",
                portable=True,
            ),
            family="bi-encoder",
            max_length=max_length_of(checkpoint, length),
            activation=activation,
            detail=similarity,
            embeds=True,
        )

    def encode_documents(
        self, documents: Sequence[str], options: ScoreOptions = DEFAULTS
    ) -> Encoded:
        """Rows of the documents that are not known, under the document's prompt."""
        return self._encode_documents(documents)

    def embed(self, encoded: Encoded) -> Vectors:
        """Vectors [documents, hidden], as they are compared with a query's."""
        outputs = iter(self._engine.run_once(encoded.rows) if encoded.rows else [])
        documents = self._represented(encoded, encoded.rows, outputs)
        vectors: Vectors = self._stack(documents).numpy()
        return vectors

    def _query_row(self, query: str) -> tuple[TokenRow, bool]:
        rows, cut = self._rows([query], self._query_prompt)
        return rows[0], cut[0]

    def _document_rows(self, documents: Sequence[str]) -> tuple[list[TokenRow], list[bool]]:
        return self._rows(documents, self._document_prompt)

    def _rows(self, texts: Sequence[str], prompt: str) -> tuple[list[TokenRow], list[bool]]:
        prompted = [prompt + text for text in texts]
        return self._tokenize(prompted, truncation=True, max_length=self.info.max_length)

    def _embed_query(self, output: torch.Tensor) -> torch.Tensor:
        return self._embed(output)

    def _represent(self, output: torch.Tensor, row: TokenRow, truncated: bool) -> Representation:
        vector = self._embed(output)
        return self._documents.make(vector, tokens=len(row), truncated=truncated, scaled=True)

    def _compare(self, query: torch.Tensor, documents: Sequence[Representation]) -> torch.Tensor:
        vectors = torch.stack([document.vectors for document in documents]).float()
        scales = torch.tensor([document.scale for document in documents])
        # Row by row: a matrix product may round equal documents differently.
        return (vectors * query).sum(dim=1) * scales

    def _stack(self, documents: Sequence[Representation]) -> torch.Tensor:
        return torch.stack([document.vectors.float() * document.scale for document in documents])

    def _embed(self, tokens: torch.Tensor) -> torch.Tensor:
        for layer in self._layers:
            tokens = layer(tokens)
        return tokens


def encoder_settings(checkpoint: Checkpoint) -> dict[str, Any]:
    """What the folder says of its encoder; where that is lower case, the tokenizer is told."""
    found = (checkpoint.part_json(name) for name in _SETTINGS)
    saved: dict[str, Any] = next((settings for settings in found if settings), {})
    if saved.get("do_lower_case"):
        backend = checkpoint.tokenizer.backend_tokenizer
        own = [] if backend.normalizer is None else [backend.normalizer]
        backend.normalizer = normalizers.Sequence([normalizers.Lowercase(), *own])
    return saved


def _layers(checkpoint: Checkpoint) -> Iterator[Layer]:
    """What comes after the encoder, in the folder's order."""
    for kind, folder in checkpoint.parts[1:]:
        config: dict[str, Any] = checkpoint.json(f"{folder}/config.json") or {}
        if kind == "Pooling":
            yield _pooling(checkpoint, config)
        elif kind == "Dense":
            yield dense(checkpoint, folder, config)
        elif kind == "Normalize":
            yield lambda x: torch.nn.functional.normalize(x, dim=-1)
        else:
            raise ModelLoadError(
                f"{checkpoint.spec.source!r} has a module {kind!r}; Pooling, Dense and Normalize "
                "are known after the encoder"
            )


def _pooling(checkpoint: Checkpoint, config: dict[str, Any]) -> Layer:
    named = config.get("pooling_mode")
    if named is None:
        named = [mode for old, mode in _OLD_NAMES.items() if config.get(old)] or ["mean"]
    modes = [named] if isinstance(named, str) else list(named)
    unknown = [mode for mode in modes if mode not in POOLINGS]
    if unknown or config.get("include_prompt") is False:
        what = f"pooling {unknown[0]!r}" if unknown else "pooling that leaves the prompt out"
        raise ModelLoadError(
            f"{checkpoint.spec.source!r} has {what}; known are {', '.join(POOLINGS)}"
        )
    return lambda tokens: torch.cat([POOLINGS[mode](tokens) for mode in modes])


def dense(checkpoint: Checkpoint, folder: str, config: dict[str, Any]) -> Layer:
    """A dense layer of the folder. Raises ModelLoadError for one that is not known."""
    name = str(config.get("activation_function", "Tanh")).rsplit(".", 1)[-1]
    if name not in _ACTIVATIONS or config.get("use_residual"):
        raise ModelLoadError(
            f"{checkpoint.spec.source!r} has a dense layer with {name} "
            f"{'and a residual ' if config.get('use_residual') else ''}which is not known; known "
            f"are {', '.join(_ACTIVATIONS)}"
        )
    weights = checkpoint.weights(folder)
    needed = ["linear.weight", *["linear.bias"] * bool(config.get("bias", True))]
    for missing in (tensor for tensor in needed if tensor not in weights):
        raise ModelLoadError(f"{checkpoint.spec.source!r} lacks {folder}'s {missing}")
    weight, bias = weights["linear.weight"].float(), weights.get("linear.bias")
    activation = _ACTIVATIONS[name]
    return lambda x: activation(
        torch.nn.functional.linear(x, weight, None if bias is None else bias.float())
    )
