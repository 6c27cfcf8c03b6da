"""The types of remote models: the model's spec, its provider and a call to the provider."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from models.types import DEFAULTS, Activation, Document, ModelInfo, Score, ScoreOptions

# What a provider's scores are. A probability is within [0, 1], a cosine is clipped to it, a logit
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

    `base_url` replaces the provider's URL. The key is read from `api_key_env` or `api_key_file`,
    else from the provider's default variable. `timeout_s` limits a request including all retries,
    `retries` the retries of a call, `parallel_calls` the concurrent calls. `max_documents`
    (documents per call) and `scores` override the provider table. `parameters` are added to the
    body of each call. `judge`, `window`, `step` and `structured` apply to LLM judges. `max_calls`
    limits the calls for one request, `max_tokens_per_hour` the tokens of all calls.
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
    """An entry of the provider table.

    `base` + `path` is the URL; an entry without a base needs `base_url`. `key_env`: the default
    variable of the key, None for servers that need no key. `max_documents` and `max_tokens` limit
    a call, where the query's tokens count once per document; `tokens_by_model` has other limits by
    prefix of the model's name. Texts longer than `max_document_chars` or `max_query_chars` are
    truncated, because the provider rejects them. `doc_tokens_field`: the provider's field for the
    maximum tokens per document, if it has one.
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
class ProviderCall:
    """One call, independent of the wire form. `query_image`: an image that replaces the query."""

    model: str | None
    query: str
    documents: Sequence[Document]
    query_image: str | None = None
    instruction: str | None = None
    region: str = ""

    @property
    def texts(self) -> list[str]:
        """The documents' texts; for an image, the text that comes with it."""
        return [d if isinstance(d, str) else d.text for d in self.documents]


class RemoteScorer(Protocol):
    """A model scored over HTTP."""

    @property
    def info(self) -> ModelInfo: ...

    @property
    def counts(self) -> Mapping[str, int]:
        """Number of events so far, by event: calls, retries, failures, tokens, …"""
        ...

    async def score(
        self, query: str, documents: Sequence[Document], options: ScoreOptions = DEFAULTS
    ) -> list[Score]:
        """Scores in document order. Raises a RemoteError."""
        ...

    async def close(self) -> None: ...
