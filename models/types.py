"""The nouns of scoring: what a model is, what goes in, what comes out."""

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
EMBEDDED = "embedded"


class ModelLoadError(Exception):
    """A model can't be loaded. The message says what was tried, where, and what to do."""


class ScoringError(Exception):
    """A loaded model gave no usable score (NaN logits, for example). Names the model."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What a served model name stands for.

    `source` is `embedded`, a Hugging Face model name, or a folder on disk. `max_length` is in
    tokens, special tokens included; None takes the checkpoint's own. `family`, `template`: `auto`
    takes them from the checkpoint's config. `dtype`: what is computed in; `8bit` and `4bit` are of
    the weights, on MLX alone. `label`: the relevant one of a head with several,
    by number or name. `layer`: where a layerwise model is read. `instruction`: the task, for
    models that are prompted. `max_tokens_per_doc` cuts each document before it is scored;
    `long_document` says what happens to one that is longer than the model reads.
    `conversions`: a folder where models converted for OpenVINO are kept; None: nowhere.
    `representation_cache_bytes`: how much of documents' representations is kept, for models that
    have them.
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
    backend: Literal["auto", "torch", "openvino", "mlx"] = "torch"
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
    """What a request may ask of the scoring; None is the model's own setting.

    `query_image`: an image, by URL or as a data URI, in place of the query's text. `explain`: the
    reason for each score, from a model that gives one.
    """

    instruction: str | None = None
    max_tokens_per_doc: int | None = None
    long_document: LongDocument | None = None
    query_image: str | None = None
    explain: bool = False


DEFAULTS = ScoreOptions()


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What a loaded model turned out to be; plain data, safe to send between processes.

    `listwise`: a document's score depends on the others in its request. `template` names the
    prompt, where there is one, and `takes_instruction` says whether an instruction has a place
    in it. `detail` is what else scores depend on: the label or layer that is read.
    `whole_requests`: it cuts a request by itself, to what its provider takes in a call.
    `explains`: it can give the reason for a score. `embeds`: it can hand out documents' vectors.
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
    """One pair's raw score (before the activation) and the tokens that it took.

    `passages`: how many parts of the document were scored; the score is the best one's.
    `explanation`: the reason for the score, where it was asked for.
    """

    logit: float
    tokens: int
    truncated: bool = False
    passages: int = 1
    explanation: str = ""


@dataclass(frozen=True, slots=True)
class Patches:
    """An image as a vision model takes it: pixels [patches, values], and how they lie.

    `grid` is (times, rows, columns) of patches.
    """

    pixels: Any
    grid: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TokenRow:
    """One row of token ids as the engine runs it, special tokens included.

    `attended`: how many of the first tokens are attended to; None is all of them. `read`: the
    positions whose hidden states are wanted, where a family reads hidden states; None is all.
    `images`: what stands at the row's places for images, in their order.
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
    """A query and its documents after tokenising: the rows to run and what to read out.

    `rows` are what the engine runs; `tokens[i]` and `truncated[i]` belong to document i.
    `extra` is the family's own (where the query's row is, for example).
    """

    rows: Sequence[TokenRow]
    tokens: Sequence[int]
    truncated: Sequence[bool]
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def cost(self) -> int:
        """Tokens that a forward pass of these rows takes, padding aside."""
        return sum(len(row) for row in self.rows)


class Scorer(Protocol):
    """A loaded model. `encode` may run in one thread while `forward` runs in another."""

    @property
    def info(self) -> ModelInfo: ...

    def encode(
        self, query: str, documents: Sequence[Document], options: ScoreOptions = DEFAULTS
    ) -> Encoded:
        """Tokenise one query with its documents."""
        ...

    @property
    def engine_stats(self) -> EngineStats:
        """What the engine has run."""
        ...

    def find_budget(self) -> None:
        """Find the token budget that is fastest on this machine; `info` has it."""
        ...

    def representation_stats(self) -> dict[str, int]:
        """Hits, misses, saved_tokens, evictions, entries and bytes of the documents'
        representations that are kept; empty where none are."""
        ...

    def forward(self, batch: Sequence[Encoded]) -> list[list[Score]]:
        """Score several encoded requests together; one list of scores for each.

        Raises ScoringError when a logit is not finite.
        """
        ...

    def score(
        self, query: str, documents: Sequence[Document], options: ScoreOptions = DEFAULTS
    ) -> list[Score]:
        """Encode and run in one call."""
        ...

    def encode_documents(
        self, documents: Sequence[Document], options: ScoreOptions = DEFAULTS
    ) -> Encoded:
        """Tokenise documents alone, for `embed`. Raises ScoringError unless `info.embeds`."""
        ...

    def embed(self, encoded: Encoded) -> Vectors:
        """Vectors [documents, hidden] of what `encode_documents` gave, as they are compared."""
        ...


def relevance(logit: float, activation: Activation) -> float:
    """The relevance score that a client sees for a raw score.

    `sigmoid` for cross-encoders with one label (sentence-transformers' default), `clamp`
    to [0, 1] for mean cosine similarities, `identity` where the reference applies nothing.
    """
    if activation == "sigmoid":
        if logit >= 0:
            return 1.0 / (1.0 + math.exp(-logit))
        e = math.exp(logit)
        return e / (1.0 + e)
    if activation == "clamp":
        return min(1.0, max(0.0, logit))
    return logit
