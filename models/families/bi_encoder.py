"""Bi-encoders: query and document are embedded separately, each as one vector.

Reads sentence-transformers folders (Reimers and Gurevych, "Sentence-BERT", EMNLP 2019): an encoder,
a pooling of its token embeddings, optional dense layers and normalisation, and the prompts that
the config gives for queries and documents.
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

# By sentence-transformers' names: one text's [tokens, hidden] to [hidden].
POOLINGS: dict[str, Layer] = {
    "cls": lambda tokens: tokens[0],
    "max": lambda tokens: tokens.amax(dim=0),
    "mean": lambda tokens: tokens.mean(dim=0),
    "mean_sqrt_len_tokens": lambda tokens: tokens.sum(dim=0) / len(tokens) ** 0.5,
    "weightedmean": lambda tokens: _weighted_mean(tokens),
    "lasttoken": lambda tokens: tokens[-1],
}
# Names in versions before 6, in the order in which several poolings are concatenated.
_OLD_NAMES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
# Files with the encoder's settings: the current name first, then early ones, named by model.
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
    """A folder with pooling that is not a CrossEncoder, which may pool since version 6."""
    if "Pooling" not in checkpoint.modules or checkpoint.spec.source == EMBEDDED:
        return False
    saved = checkpoint.json("config_sentence_transformers.json") or {}
    return bool(saved.get("model_type", "SentenceTransformer") == "SentenceTransformer")


def _weighted_mean(tokens: torch.Tensor) -> torch.Tensor:
    weights = torch.arange(1, len(tokens) + 1, dtype=tokens.dtype)
    return (weights @ tokens) / weights.sum()


class BiEncoder(Embedding):
    """The raw score is the similarity that the folder names: cosine or dot product."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        from transformers import AutoModel

        saved = checkpoint.json("config_sentence_transformers.json") or {}
        similarity = saved.get("similarity_fn_name") or "cosine"
        if similarity not in ("cosine", "dot"):
            raise ModelLoadError(
                f"{checkpoint.spec.source!r} uses the similarity {similarity!r}; supported are "
                "cosine and dot"
            )
        prompts = saved.get("prompts") or {}
        # SentenceTransformer adds an empty `document` prompt if there is none, so that the other
        # names that its encode_document accepts, `passage` and `corpus`, are never used.
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
        """Rows of the documents that are not cached, with the document prompt."""
        return self._encode_documents(documents)

    def embed(self, encoded: Encoded) -> Vectors:
        """Vectors [documents, hidden], as they are compared with the query's."""
        parts = self._represented_in_parts(encoded, encoded.rows)
        documents = [document for part in parts for document in part]
        vectors: Vectors = self._stack(documents).numpy()
        return vectors

    def _query_row(self, query: str) -> tuple[TokenRow, bool]:
        rows, cut = self._rows([query], self._query_prompt)
        return rows[0], cut[0]

    def _document_rows(self, documents: Sequence[str]) -> tuple[list[TokenRow], list[bool]]:
        return self._rows(documents, self._document_prompt)

    def _rows(self, texts: Sequence[str], prompt: str) -> tuple[list[TokenRow], list[bool]]:
        prompted = [prompt + text for text in texts]
        return self._tokenize(prompted, self.info.max_length)

    def _embed_query(self, output: torch.Tensor) -> torch.Tensor:
        return self._embed(output)

    def _represent(self, output: torch.Tensor, row: TokenRow, truncated: bool) -> Representation:
        vector = self._embed(output)
        return self._documents.make(vector, tokens=len(row), truncated=truncated, scaled=True)

    def _compare(self, query: torch.Tensor, documents: Sequence[Representation]) -> torch.Tensor:
        vectors = torch.stack([document.vectors for document in documents]).float()
        scales = torch.tensor([document.scale for document in documents])
        # Row by row, because a matrix product may round equal documents differently.
        return (vectors * query).sum(dim=1) * scales

    def _stack(self, documents: Sequence[Representation]) -> torch.Tensor:
        return torch.stack([document.vectors.float() * document.scale for document in documents])

    def _embed(self, tokens: torch.Tensor) -> torch.Tensor:
        for layer in self._layers:
            tokens = layer(tokens)
        return tokens


def encoder_settings(checkpoint: Checkpoint) -> dict[str, Any]:
    """The folder's settings of its encoder; sets the tokenizer to lower case if they say so."""
    found = (checkpoint.part_json(name) for name in _SETTINGS)
    saved: dict[str, Any] = next((settings for settings in found if settings), {})
    if saved.get("do_lower_case"):
        backend = checkpoint.tokenizer.backend_tokenizer
        own = [] if backend.normalizer is None else [backend.normalizer]
        backend.normalizer = normalizers.Sequence([normalizers.Lowercase(), *own])
    return saved


def _layers(checkpoint: Checkpoint) -> Iterator[Layer]:
    """The layers after the encoder, in the folder's order."""
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
                f"{checkpoint.spec.source!r} has a module {kind!r}; supported after the encoder "
                "are Pooling, Dense and Normalize"
            )


def _pooling(checkpoint: Checkpoint, config: dict[str, Any]) -> Layer:
    named = config.get("pooling_mode")
    if named is None:
        named = [mode for old, mode in _OLD_NAMES.items() if config.get(old)] or ["mean"]
    modes = [named] if isinstance(named, str) else list(named)
    unknown = [mode for mode in modes if mode not in POOLINGS]
    if unknown or config.get("include_prompt") is False:
        what = f"pooling {unknown[0]!r}" if unknown else "pooling that excludes the prompt"
        raise ModelLoadError(
            f"{checkpoint.spec.source!r} has {what}; supported are {', '.join(POOLINGS)}"
        )
    return lambda tokens: torch.cat([POOLINGS[mode](tokens) for mode in modes])


def dense(checkpoint: Checkpoint, folder: str, config: dict[str, Any]) -> Layer:
    """A dense layer of the folder. Raises ModelLoadError if it is not supported."""
    name = str(config.get("activation_function", "Tanh")).rsplit(".", 1)[-1]
    if name not in _ACTIVATIONS or config.get("use_residual"):
        raise ModelLoadError(
            f"{checkpoint.spec.source!r} has a dense layer with {name}"
            f"{' and a residual' if config.get('use_residual') else ''}; supported are layers "
            f"without a residual, with {', '.join(_ACTIVATIONS)}"
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
