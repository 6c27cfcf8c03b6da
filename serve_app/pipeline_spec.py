"""A pipeline as data: its ordered stages, as written in settings and requests."""

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

# Fields of the stage that has most. More are refused before each of them is found to be wrong.
_MAX_FIELDS = 8
# A stage without a model: BM25 over the request's documents.
BM25 = "bm25"
# Reported as the model if the pipeline came with the request.
UNNAMED = "pipeline"
MAX_STAGES = 8
MAX_FUSED = 8
_KINDS = ("rerank", "fuse", "mmr", "threshold")
_FUSED = f"must name 2 to {MAX_FUSED} rankings"
_LENGTH = f"a pipeline must have 1 to {MAX_STAGES} stages"
_ONE_OF = "a stage must be an object with exactly one of rerank, fuse, mmr and threshold"


def _number(value: Any) -> Any:
    if isinstance(value, (bool, str)):
        raise ValueError("must be a number")
    return value


Count = Annotated[int, BeforeValidator(_number), Field(ge=1, le=1_000_000)]
Number = Annotated[FiniteFloat, BeforeValidator(_number)]
Name = Annotated[str, Field(strict=True, min_length=1, max_length=256)]


def _at_most(most: int, message: str) -> BeforeValidator:
    """Refuse a longer list before its items are validated."""

    def check(value: Any) -> Any:
        if isinstance(value, (list, tuple)) and len(value) > most:
            raise ValueError(f"{message}, not {len(value)}")
        return value

    return BeforeValidator(check)


class _Stage(BaseModel):
    """Base of the stages: immutable, unknown fields are rejected."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Rerank(_Stage):
    """Score the remaining documents with a model or `bm25`, and keep the best `keep`."""

    rerank: Name
    keep: Count | None = None

    @property
    def label(self) -> str:
        return self.rerank

    @property
    def names(self) -> tuple[str, ...]:
        return (self.rerank,)


class Fuse(_Stage):
    """Rank the remaining documents with several models and fuse the rankings (RRF)."""

    fuse: Annotated[tuple[Name, ...], _at_most(MAX_FUSED, _FUSED)]
    k: Count = K
    keep: Count | None = None

    @field_validator("fuse")
    @classmethod
    def _each_once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(names) < 2:
            raise ValueError(f"{_FUSED}, not {len(names)}")
        if len(set(names)) < len(names):
            raise ValueError("must not name a ranking twice")
        return names

    @property
    def label(self) -> str:
        return "rrf"

    @property
    def names(self) -> tuple[str, ...]:
        return self.fuse


class Mmr(_Stage):
    """Reorder the remaining documents by maximal marginal relevance (bi-encoder embeddings)."""

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
    """Drop documents with a lower score."""

    threshold: Number

    @property
    def label(self) -> str:
        return "threshold"

    @property
    def names(self) -> tuple[str, ...]:
        return ()

    @property
    def keep(self) -> None:
        """None: a threshold does not limit the number of documents."""


def _kind(value: Any) -> str | None:
    if isinstance(value, Mapping):
        if len(value) > _MAX_FIELDS:
            return None
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
    if not stages:
        raise ValueError(f"{_LENGTH}, not 0")
    return stages


Stages = Annotated[tuple[Stage, ...], AfterValidator(_some), _at_most(MAX_STAGES, _LENGTH)]
Milliseconds = Count


class Pipeline(_Stage):
    """Stages, and a budget: milliseconds after a request's arrival when no stage continues."""

    stages: Stages
    budget_ms: Milliseconds | None = None

    @model_validator(mode="after")
    def _something_scores_first(self) -> Pipeline:
        if isinstance(self.stages[0], Threshold):
            raise ValueError("a threshold needs a scoring stage before it")
        return self

    @property
    def steps(self) -> tuple[Rerank | Fuse | Mmr | Threshold, ...]:
        """The stages as executed: if MMR comes first, its model ranks the documents before it."""
        first = self.stages[0]
        return (Rerank(rerank=first.mmr), *self.stages) if isinstance(first, Mmr) else self.stages

    @property
    def names(self) -> tuple[str, ...]:
        """The models used, and `bm25` if used, in order."""
        return tuple(dict.fromkeys(name for stage in self.stages for name in stage.names))

    @property
    def scorer(self) -> str | None:
        """The model that produces the final scores; None if only BM25 scores."""
        for step in reversed(self.steps):
            models = [name for name in step.names if name != BM25]
            if models and not isinstance(step, Mmr):
                return models[0]
        return None


def problem(error: ValidationError) -> tuple[str, str]:
    """The field that is invalid (such as `1.keep`; empty for the whole), and a message."""
    first = error.errors()[0]
    where = [str(part) for part in first["loc"] if part not in ("stages", *_KINDS)]
    named = [str(part) for part in first["loc"] if part in _KINDS]
    # The stage's kind is in the path as a tag, and again if its own field is invalid.
    if len(named) > 1:
        where.append(named[1])
    message = str(first["msg"]).removeprefix("Value error, ")
    return ".".join(where), message.replace("valid tuple", "list")
