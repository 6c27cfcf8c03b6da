"""A pipeline as data: stages in their order, as the settings and requests write them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    FiniteFloat,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from models.pipelines.fusion import K

# Not a model: BM25 over the request's own documents.
BM25 = "bm25"
# The name under which a request's own pipeline answers.
UNNAMED = "pipeline"
MAX_STAGES = 8
MAX_FUSED = 8
_KINDS = ("rerank", "fuse", "mmr", "threshold")
_ONE_OF = "a stage is an object with one of rerank, fuse, mmr and threshold"


def _number(value: Any) -> Any:
    if isinstance(value, (bool, str)):
        raise ValueError("must be a number")
    return value


Count = Annotated[int, BeforeValidator(_number), Field(ge=1, le=1_000_000)]
Number = Annotated[FiniteFloat, BeforeValidator(_number)]
Name = Annotated[str, Field(strict=True, min_length=1, max_length=256)]


class _Stage(BaseModel):
    """A stage cannot change, and unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Rerank(_Stage):
    """Score what is left with a model, or with `bm25`; the best `keep` go on."""

    rerank: Name
    keep: Count | None = None

    @property
    def label(self) -> str:
        return self.rerank

    @property
    def names(self) -> tuple[str, ...]:
        return (self.rerank,)


class Fuse(_Stage):
    """Rank what is left with each of several, and fuse the rankings by reciprocal rank."""

    fuse: tuple[Name, ...]
    k: Count = K
    keep: Count | None = None

    @field_validator("fuse")
    @classmethod
    def _each_once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if not 2 <= len(names) <= MAX_FUSED:
            raise ValueError(f"2 to {MAX_FUSED} rankings are fused, not {len(names)}")
        if len(set(names)) < len(names):
            raise ValueError("each is fused once")
        return names

    @property
    def label(self) -> str:
        return "rrf"

    @property
    def names(self) -> tuple[str, ...]:
        return self.fuse


class Mmr(_Stage):
    """Order what is left by maximal marginal relevance, on a bi-encoder's embeddings."""

    mmr: Name
    trade: Annotated[Number, Field(ge=0, le=1, alias="lambda")] = 0.5
    keep: Count | None = None

    @field_validator("mmr")
    @classmethod
    def _has_embeddings(cls, name: str) -> str:
        if name == BM25:
            raise ValueError("bm25 has no embeddings; name a bi-encoder")
        return name

    @property
    def label(self) -> str:
        return "mmr"

    @property
    def names(self) -> tuple[str, ...]:
        return (self.mmr,)


class Threshold(_Stage):
    """Drop what has a lower score."""

    threshold: Number

    @property
    def label(self) -> str:
        return "threshold"

    @property
    def names(self) -> tuple[str, ...]:
        return ()

    @property
    def keep(self) -> None:
        """It cuts by score alone."""


def _kind(value: Any) -> str | None:
    if isinstance(value, Mapping):
        named = [kind for kind in _KINDS if kind in value]
        return named[0] if len(named) == 1 else None
    return _KINDS[_CLASSES.index(type(value))] if type(value) in _CLASSES else None


_CLASSES = (Rerank, Fuse, Mmr, Threshold)
Stage = Annotated[
    Annotated[Rerank, Tag("rerank")]
    | Annotated[Fuse, Tag("fuse")]
    | Annotated[Mmr, Tag("mmr")]
    | Annotated[Threshold, Tag("threshold")],
    Discriminator(_kind, custom_error_type="stage", custom_error_message=_ONE_OF),
]


def _some(stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
    if not 1 <= len(stages) <= MAX_STAGES:
        raise ValueError(f"a pipeline has 1 to {MAX_STAGES} stages, not {len(stages)}")
    return stages


Stages = Annotated[tuple[Stage, ...], AfterValidator(_some)]
Milliseconds = Count


class Pipeline(_Stage):
    """`budget_ms`: milliseconds from a request's arrival after which no stage goes on."""

    stages: Stages
    budget_ms: Milliseconds | None = None

    @model_validator(mode="after")
    def _something_scores_first(self) -> Pipeline:
        if isinstance(self.stages[0], Threshold):
            raise ValueError("a threshold needs a stage before it that scores")
        return self

    @property
    def steps(self) -> tuple[Rerank | Fuse | Mmr | Threshold, ...]:
        """The stages as they run: MMR needs a ranking, and makes its own where it is first."""
        first = self.stages[0]
        return (Rerank(rerank=first.mmr), *self.stages) if isinstance(first, Mmr) else self.stages

    @property
    def names(self) -> tuple[str, ...]:
        """The models that it needs, and `bm25` where it does, in their order."""
        return tuple(dict.fromkeys(name for stage in self.stages for name in stage.names))

    @property
    def scorer(self) -> str | None:
        """The model whose scores come last; None where BM25 alone scores."""
        for step in reversed(self.steps):
            models = [name for name in step.names if name != BM25]
            if models and not isinstance(step, Mmr):
                return models[0]
        return None


def problem(error: ValidationError) -> tuple[str, str]:
    """Where a pipeline is wrong (`1.keep`; empty for the whole), and how, for people."""
    first = error.errors()[0]
    where = [str(part) for part in first["loc"] if part not in ("stages", *_KINDS)]
    named = [str(part) for part in first["loc"] if part in _KINDS]
    # The kind stands in the path as a tag, and once more where its own field is wrong.
    if len(named) > 1:
        where.append(named[1])
    message = str(first["msg"]).removeprefix("Value error, ")
    return ".".join(where), message.replace("valid tuple", "list")
