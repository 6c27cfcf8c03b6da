"""The options of a request, each declared once.

A row of `OPTIONS` defines how an option is parsed and described in OpenAPI, in every dialect that
has it; a `Capability` says which models support it. `RequestOptions` are the keyword arguments
that the client and the Ray handle take under the same names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

LongDocument = Literal["truncate", "max_passage"]


class RequestOptions(TypedDict, total=False):
    """The options that both the client and the handle take, besides query and documents."""

    model: str | None
    instruction: str | None
    max_tokens_per_doc: int | None
    long_document: LongDocument | None
    query_image_url: str | None
    pipeline: Sequence[Mapping[str, Any]] | None
    budget_ms: int | None


@dataclass(frozen=True, slots=True)
class Text:
    """A string; an empty one means that the option is not set."""

    max_chars: int


@dataclass(frozen=True, slots=True)
class Image:
    """An http or https URL, or a data URI."""

    max_chars: int


@dataclass(frozen=True, slots=True)
class Integer:
    at_least: int = 1
    at_most: int | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Flag:
    default: bool


Kind = Text | Image | Integer | Choice | Flag


@dataclass(frozen=True, slots=True)
class Alias:
    """Another server's name for an option. `unset`: a value that means "not set" there."""

    description: str
    unset: int | None = None


@dataclass(frozen=True, slots=True)
class Capability:
    """What a model must support for an option to be used with it.

    `flag`: the field of ModelInfo that is true for such models. `has` and `lacks` complete the
    sentence "the model …" in error messages.
    """

    flag: str
    has: str
    lacks: str


@dataclass(frozen=True, slots=True)
class Option:
    """`attribute`: the option's name in ScoreOptions, if it has one there."""

    kind: Kind
    description: str
    attribute: str | None = None
    aliases: Mapping[str, Alias] = field(default_factory=dict)
    capability: Capability | None = None


OPTIONS: Mapping[str, Option] = {
    "instruction": Option(
        Text(max_chars=4096),
        "Instruction that describes the task, for models that support one.",
        attribute="instruction",
        aliases={"instruct": Alias("SGLang's name for instruction.")},
        capability=Capability(
            flag="takes_instruction",
            has="supports instructions",
            lacks="does not support instructions; leave the field out",
        ),
    ),
    "max_tokens_per_doc": Option(
        Integer(),
        "Maximum number of tokens scored per document.",
        attribute="max_tokens_per_doc",
        aliases={
            "max_doc_length": Alias("Jina's name for max_tokens_per_doc."),
            "truncate_prompt_tokens": Alias(
                "vLLM's name for max_tokens_per_doc; -1 means the model's maximum.", unset=-1
            ),
        },
    ),
    "long_document": Option(
        Choice(("truncate", "max_passage")),
        "Truncate documents that are too long, or score them by their best passage.",
        attribute="long_document",
    ),
    "query_image_url": Option(
        Image(max_chars=10 * 2**20),
        "An image instead of the query, for models that accept one.",
        attribute="query_image",
        capability=Capability(
            flag="takes_query_image",
            has="supports an image as the query",
            lacks="does not support an image as the query; send text",
        ),
    ),
    "explain": Option(
        Flag(default=False),
        "Return the reason for each score, if the model supports it.",
        attribute="explain",
        capability=Capability(
            flag="explains",
            has="supports explanations",
            lacks="does not support explanations; leave the field out",
        ),
    ),
    "priority": Option(
        Integer(at_least=0, at_most=999), "Priority in the queue; 0 is served first."
    ),
    "sort": Option(Flag(default=True), "False keeps the order of the documents."),
    "truncate": Option(
        Flag(default=True),
        "False rejects documents that are too long instead of truncating them.",
    ),
    "raw_scores": Option(Flag(default=False), "Return logits instead of relevance scores."),
    "budget_ms": Option(
        Integer(), "Time budget of a pipeline in milliseconds; then no further stage starts."
    ),
}
