"""The types of scoring: what a model is, its input and its output."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from models.engine_stats import EngineStats
from models.images import ImageDocument

if TYPE_CHECKING:
    from models.vectors import Vectors

Document = str | ImageDocument
Activation = Literal["identity", "sigmoid", "clamp"]
Precision = Literal["auto", "float32", "bfloat16", "float16", "int8", "8bit", "4bit"]
LongDocument = Literal["truncate", "max_passage"]
Backend = Literal["auto", "torch", "openvino", "mlx"]
EMBEDDED = "embedded"


class ModelLoadError(Exception):
    """A model cannot be loaded. The message says what was tried, where, and what to do."""


class ScoringError(Exception):
    """A loaded model gave no usable score (NaN logits, for example). The message names it."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What a served model name stands for.

    `source`: `embedded`, a Hugging Face model name, or a folder on disk. `max_length`: in tokens,
    including special tokens; None means the checkpoint's own. `family`, `template`: `auto` derives
    them from the checkpoint's config. `backend`: the engine, one of `models.engines.ENGINES`, or
    `auto`. `dtype`: the precision of the computation; `8bit` and `4bit` are precisions of the
    weights, on MLX only. `label`: the relevant label of a head with several, by number or name.
    `layer`: the layer at which a layerwise model is read. `instruction`: the task, for models with
    a prompt. `max_tokens_per_doc`: each document is cut to it before scoring. `long_document`: what
    happens to a document longer than the model reads. `conversions`: a folder for models converted
    to OpenVINO; None keeps none. `representation_cache_bytes`: size of the cache of documents'
    representations, for models that have them; 0 disables it.
    """

    name: str
    source: str = EMBEDDED
    revision: str | None = None
    device: str = "auto"
    dtype: Precision = "auto"
    max_length: int | None = None
    normalize_text: bool | None = None
    trust_remote_code: bool = False
    compile: bool = False
    token_budget: int | None = None
    batch_size: int | None = None
    threads: int | None = None
    backend: Backend = "torch"
    family: str = "auto"
    template: str = "auto"
    instruction: str | None = None
    label: int | str | None = None
    layer: int | None = None
    max_tokens_per_doc: int | None = None
    long_document: LongDocument = "truncate"
    representation_cache_bytes: int = 0
    conversions: str | None = None


@dataclass(frozen=True, slots=True)
class ScoreOptions:
    """A request's options for scoring; None means the model's own setting.

    `query_image`: an image, as a URL or data URI, that replaces the query's text. `explain`: asks
    for the reason for each score, from models that give one.
    """

    instruction: str | None = None
    max_tokens_per_doc: int | None = None
    long_document: LongDocument | None = None
    query_image: str | None = None
    explain: bool = False


DEFAULTS = ScoreOptions()


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Describes a loaded model. Plain data, safe to send between processes.

    `listwise`: a document's score depends on the other documents of its request. `template`: the
    name of the prompt, if there is one. `takes_instruction`: the prompt has a place for an
    instruction. `detail`: what else scores depend on, such as the label or layer that is read.
    `whole_requests`: the model itself splits a request into calls that its provider accepts.
    `explains`: it can give the reason for a score. `embeds`: it can return documents' vectors.
    """

    name: str
    source: str
    revision: str
    family: str
    backend: str
    device: str
    dtype: str
    max_length: int
    activation: Activation
    normalize_text: bool
    token_budget: int
    template: str | None = None
    takes_instruction: bool = False
    instruction: str | None = None
    listwise: bool = False
    takes_images: bool = False
    detail: str = ""
    max_tokens_per_doc: int | None = None
    long_document: LongDocument = "truncate"
    whole_requests: bool = False
    takes_query_image: bool = False
    explains: bool = False
    embeds: bool = False


@dataclass(frozen=True, slots=True)
class Score:
    """One pair's raw score (before the activation) and its number of tokens.

    `passages`: number of passages of the document that were scored; the score is the best one's.
    `explanation`: the reason for the score, if it was asked for.
    """

    logit: float
    tokens: int
    truncated: bool = False
    passages: int = 1
    explanation: str = ""


@dataclass(frozen=True, slots=True)
class Patches:
    """An image as input to a vision model: `pixels` [patches, values].

    `grid`: number of patches as (times, rows, columns).
    """

    pixels: Any
    grid: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TokenRow:
    """One row of token ids as the engine runs it, including special tokens.

    `attended`: only this many of the first tokens are attended to; None means all. `read`: the
    positions whose hidden states the family reads, if it reads hidden states; None means all.
    `images`: the images for the row's image tokens, in order.
    """

    input_ids: Sequence[int]
    type_ids: Sequence[int] | None = None
    attended: int | None = None
    read: Sequence[int] | None = None
    images: Sequence[Patches] = ()

    def __len__(self) -> int:
        return len(self.input_ids)


@dataclass(frozen=True, slots=True)
class Encoded:
    """A query and its documents after tokenising.

    `rows` is what the engine runs; `tokens[i]` and `truncated[i]` describe document i. `extra` is
    private to the family.
    """

    rows: Sequence[TokenRow]
    tokens: Sequence[int]
    truncated: Sequence[bool]
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def cost(self) -> int:
        """Tokens in a forward pass of these rows, excluding padding."""
        return sum(len(row) for row in self.rows)


class Scorer(Protocol):
    """A loaded model. `encode` and `forward` may run at the same time in different threads."""

    @property
    def info(self) -> ModelInfo: ...

    def encode(
        self, query: str, documents: Sequence[Document], options: ScoreOptions = DEFAULTS
    ) -> Encoded:
        """Tokenise a query and its documents."""
        ...

    @property
    def engine_stats(self) -> EngineStats:
        """Counts and distributions of what the engine has run."""
        ...

    def find_budget(self) -> None:
        """Find the fastest token budget on this machine and put it into `info`."""
        ...

    def representation_stats(self) -> dict[str, int]:
        """Statistics of the cache of documents' representations; empty if there is none.

        They are hits, misses, saved_tokens, evictions, entries and bytes.
        """
        ...

    def forward(self, batch: Sequence[Encoded]) -> list[list[Score]]:
        """Score several encoded requests in one batch; return a list of scores for each.

        Raises ScoringError if a logit is not finite.
        """
        ...

    def score(
        self, query: str, documents: Sequence[Document], options: ScoreOptions = DEFAULTS
    ) -> list[Score]:
        """Encode and score in one call."""
        ...

    def encode_documents(
        self, documents: Sequence[Document], options: ScoreOptions = DEFAULTS
    ) -> Encoded:
        """Tokenise documents without a query, for `embed`.

        Raises ScoringError unless `info.embeds`.
        """
        ...

    def embed(self, encoded: Encoded) -> Vectors:
        """Vectors [documents, hidden] of encoded documents, ready to be compared."""
        ...


def relevance(logit: float, activation: Activation) -> float:
    """Turn a raw score into the relevance score that a client sees.

    `sigmoid` is for cross-encoders with one label (sentence-transformers' default), `clamp` to
    [0, 1] for mean cosine similarities, `identity` for models whose reference applies nothing.
    """
    if activation == "sigmoid":
        if logit >= 0:
            return 1.0 / (1.0 + math.exp(-logit))
        e = math.exp(logit)
        return e / (1.0 + e)
    if activation == "clamp":
        return min(1.0, max(0.0, logit))
    return logit
