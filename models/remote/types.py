"""What a remote model is: its settings, its provider's row in the table, a question to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from models.types import DEFAULTS, Activation, Document, ModelInfo, Score, ScoreOptions

# What a provider's scores are. A probability is within [0, 1]; a cosine is cut to it; a logit
# goes through a sigmoid.
Scale = Literal["probability", "cosine", "logit"]
ACTIVATIONS: Mapping[Scale, Activation] = {
    "probability": "clamp",
    "cosine": "clamp",
    "logit": "sigmoid",
}
Auth = Literal["bearer", "api-key", "google", "sigv4", "baidu"]
Judge = Literal["score", "yes_no", "listwise"]
Structured = Literal["auto", "json_schema", "json_object", "none"]


@dataclass(frozen=True, slots=True)
class RemoteSpec:
    """What a served model name stands for when a provider scores it.

    `base_url` replaces the provider's own address. The key is read from the environment variable
    or the file named here, else from the provider's usual variable. `timeout_s` bounds a request
    with all its tries; `retries` the further tries of a call; `parallel_calls` the calls at once.
    `max_documents`: documents in a call, where the provider's limit is another than the table's.
    `scores` overrides what the table says of the provider's scores. `parameters` are added to
    each call's body. `judge` to `structured` are an LLM judge's. `max_calls` bounds the calls
    that one request may cost, `max_tokens_per_hour` the tokens of all.
    """

    name: str
    provider: str
    model: str | None = None
    base_url: str | None = None
    api_key_env: str | None = None
    api_key_file: str | None = None
    timeout_s: float = 30.0
    retries: int = 2
    parallel_calls: int = 8
    max_documents: int | None = None
    scores: Scale | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    region: str | None = None
    project: str | None = None
    instruction: str | None = None
    max_tokens_per_doc: int | None = None
    judge: Judge = "score"
    window: int = 20
    step: int = 10
    structured: Structured = "auto"
    max_calls: int = 200
    max_tokens_per_hour: int | None = None


@dataclass(frozen=True, slots=True)
class Provider:
    """A row of the table.

    `base` and `path` make the address; a row without a base needs `base_url`. `key_env`: where
    the key is by default; None for servers that need none. `max_documents` and `max_tokens`
    bound a call, tokens counted as the query's for each document and the documents' own;
    `tokens_by_model` has the models (by the start of their name) with another bound.
    `max_document_chars` and `max_query_chars`: what is longer is refused there, so it is cut
    here. `doc_tokens_field`: the field that bounds a document's tokens, where there is one.
    """

    name: str
    title: str
    form: str
    base: str | None
    path: str
    key_env: str | None = None
    documentation: str = ""
    auth: Auth = "bearer"
    scale: Scale = "probability"
    max_documents: int = 1000
    max_tokens: int | None = None
    tokens_by_model: Mapping[str, int] = field(default_factory=dict)
    max_document_chars: int | None = None
    max_query_chars: int | None = None
    doc_tokens_field: str | None = None
    takes_images: bool = False
    takes_instruction: bool = False
    needs_model: bool = True
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ask:
    """One call's question, in no wire form. `query_image`: an image in place of the query."""

    model: str | None
    query: str
    documents: Sequence[Document]
    query_image: str | None = None
    instruction: str | None = None
    region: str = ""

    @property
    def texts(self) -> list[str]:
        """The documents as texts; an image stands for the text beside it."""
        return [d if isinstance(d, str) else d.text for d in self.documents]


class RemoteScorer(Protocol):
    """A model that answers over HTTP."""

    @property
    def info(self) -> ModelInfo: ...

    @property
    def counts(self) -> Mapping[str, int]:
        """What happened so far, by event: calls, retries, failures, tokens, …"""
        ...

    async def score(
        self, query: str, documents: Sequence[Document], options: ScoreOptions = DEFAULTS
    ) -> list[Score]:
        """Scores in the documents' order. Raises a RemoteError."""
        ...

    async def close(self) -> None: ...
