"""The client's core: cut, send, merge, count. Everything else is a way to call it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack

import httpx

from serve_app.client import batches
from serve_app.client.arguments import one_of, pairs, positive, seconds
from serve_app.client.documents import TextField
from serve_app.client.progress import Progress, progress_bar
from serve_app.client.results import D, RerankResults
from serve_app.client.retry import Retry
from serve_app.client.sender import Sender
from serve_app.client.spans import Spans, asked
from serve_app.client.transport import Handle, Http, Transport
from serve_app.client.usage import TokenUsageTracker, shared_tracker
from serve_app.client.wire import DialectName
from serve_app.errors import InvalidRequest, installed_by

if TYPE_CHECKING:
    import numpy as np

URL = "http://127.0.0.1:8000"
BATCH_SIZE = 2000
OnError = Literal["raise", "report"]
ON_ERROR = ("raise", "report")
# What a call's options are sent as, under the same names.
_SENT = (
    "instruction",
    "max_tokens_per_doc",
    "long_document",
    "query_image_url",
    "pipeline",
    "budget_ms",
)


class CallOptions(TypedDict, total=False):
    """What `rerank` and `batch` take beside queries and documents; see AsyncReranker.rerank."""

    top_k: int | None
    model: str | None
    instruction: str | None
    max_tokens_per_doc: int | None
    long_document: Literal["truncate", "max_passage"] | None
    query_image_url: str | None
    relevant_spans: Spans
    pipeline: Sequence[Mapping[str, Any]] | None
    budget_ms: int | None
    text_field: TextField | None
    batch_size: int | None
    on_error: OnError | None
    progress: Progress
    track_tokens: bool | None


class AsyncReranker:
    """A client of one reranker, for one event loop.

    `target`: the service's URL, a hosted provider's base URL, or a Ray DeploymentHandle.
    `dialect`: `native` for this service; `cohere`, `jina` or `voyage` for what speaks like them.
    `api_key` is sent as a bearer token. `model` is that of calls that name none.
    `batch_size`: documents a request. `max_connections`: requests in flight at once.
    `on_error`: whether a failed batch raises, or is reported beside the others' results.
    `timeout_s` bounds one try, `connect_timeout_s` its connecting; `retry` says when there is
    another. `http2` None takes it where the package h2 is installed and the server offers it.
    `extra_body`: fields for every request, by a handle too (`priority`, for example).
    `text_field`: where a document's text is.
    `tracker` counts tokens under `tool`, unless `track_tokens` is False; None is the shared one.
    `client`: an httpx client of the caller's, which the caller closes.
    """

    def __init__(
        self,
        target: Any = URL,
        *,
        dialect: DialectName = "native",
        api_key: str | None = None,
        model: str | None = None,
        batch_size: int = BATCH_SIZE,
        max_connections: int = 16,
        on_error: OnError = "raise",
        timeout_s: float = 120.0,
        connect_timeout_s: float = 5.0,
        retry: Retry | None = None,
        http2: bool | None = None,
        headers: Mapping[str, str] | None = None,
        extra_body: Mapping[str, Any] | None = None,
        text_field: TextField | None = None,
        track_tokens: bool = True,
        tracker: TokenUsageTracker | None = None,
        tool: str = "rerank",
        client: httpx.AsyncClient | None = None,
    ) -> None:
        self.model = model
        self._batch_size = positive(batch_size, "batch_size")
        one_of(on_error, ON_ERROR, "on_error")
        self._on_error: OnError = on_error
        self._text_field = text_field
        self._track = track_tokens
        self.tracker = tracker if tracker is not None else shared_tracker()
        seconds(timeout_s, "timeout_s")
        seconds(connect_timeout_s, "connect_timeout_s")
        transport: Transport
        if isinstance(target, str):
            transport = Http(
                target,
                dialect=dialect,
                api_key=api_key,
                headers=headers,
                extra_body=extra_body,
                timeout_s=timeout_s,
                connect_timeout_s=connect_timeout_s,
                max_connections=positive(max_connections, "max_connections"),
                http2=http2,
                client=client,
            )
        elif not hasattr(target, "rerank"):
            raise InvalidRequest(
                f"a target is an address or a Ray handle, not {type(target).__name__}",
                param="target",
            )
        else:
            transport = Handle(target, timeout_s=timeout_s, extra=extra_body)
        self._sender = Sender(
            transport,
            max_connections=positive(max_connections, "max_connections"),
            retry=retry or Retry(),
            tracker=self.tracker,
            tool=tool,
        )

    async def rerank(
        self,
        query: str,
        documents: Iterable[D],
        *,
        top_k: int | None = None,
        model: str | None = None,
        instruction: str | None = None,
        max_tokens_per_doc: int | None = None,
        long_document: Literal["truncate", "max_passage"] | None = None,
        query_image_url: str | None = None,
        relevant_spans: Spans = None,
        pipeline: Sequence[Mapping[str, Any]] | None = None,
        budget_ms: int | None = None,
        text_field: TextField | None = None,
        batch_size: int | None = None,
        on_error: OnError | None = None,
        progress: Progress = False,
        track_tokens: bool | None = None,
    ) -> RerankResults[D]:
        """Documents by falling relevance to `query`; all of them, or the best `top_k`.

        A document is a string, a dict with a text field, or an object with one; it comes back
        as it was given, its metadata beside it. No documents: no request, an empty result.
        `model`, `instruction`, `max_tokens_per_doc`, `long_document` and `query_image_url` are
        sent as they are. `relevant_spans`: True, or SpanOptions, for each hit's `spans`.
        `pipeline`: stages in place of a model; all documents then go in one request. `budget_ms`
        bounds a pipeline's time.
        `text_field`, `batch_size`, `on_error` and `track_tokens` win over the client's own.
        `progress`: True for a bar, or a function of (documents done, documents).
        Raises a RerankError, with a note of which documents it concerns.
        """
        options: CallOptions = {
            "top_k": top_k,
            "model": model,
            "instruction": instruction,
            "max_tokens_per_doc": max_tokens_per_doc,
            "long_document": long_document,
            "query_image_url": query_image_url,
            "relevant_spans": relevant_spans,
            "pipeline": pipeline,
            "budget_ms": budget_ms,
            "text_field": text_field,
            "batch_size": batch_size,
            "on_error": on_error,
            "progress": progress,
            "track_tokens": track_tokens,
        }
        return (await self._ranked([(query, documents)], options))[0]

    async def batch(
        self, requests: Iterable[tuple[str, Iterable[D]]], **options: Unpack[CallOptions]
    ) -> list[RerankResults[D]]:
        """One result for each (query, documents), in their order, all in flight at once.

        Several go in one request where the server takes them so. With `on_error="report"` a
        query that fails has its error in its own result. `options` are those of `rerank`, for
        every query; `elapsed_ms` is the whole call's.
        """
        if unknown := options.keys() - CallOptions.__annotations__.keys():
            raise TypeError(f"batch() got an unexpected keyword argument {min(unknown)!r}")
        return await self._ranked(pairs(requests), options)

    async def _ranked(
        self, requests: Sequence[tuple[str, Iterable[D]]], options: CallOptions
    ) -> list[RerankResults[D]]:
        started = time.perf_counter()
        top_k = options.get("top_k")
        if top_k is not None:
            top_k = positive(top_k, "top_k")
        size = options.get("batch_size")
        size = self._batch_size if size is None else positive(size, "batch_size")
        whole = batches.Whole(
            top_k=top_k,
            # The stages name the models.
            model=options.get("model") or (None if options.get("pipeline") else self.model),
            options={name: options.get(name) for name in _SENT}
            | {"relevant_spans": asked(options.get("relevant_spans"))},
        )
        on_error = options.get("on_error") or self._on_error
        one_of(on_error, ON_ERROR, "on_error")
        where = options.get("text_field")
        where = self._text_field if where is None else where
        several = len(requests) > 1
        questions = [
            batches.Question.of(query, documents, where, place if several else None)
            for place, (query, documents) in enumerate(requests)
        ]
        # A pipeline's ranks and cuts are of all documents together.
        most = sys.maxsize if options.get("pipeline") else size
        jobs = [job for question in questions for job in batches.cut(question, whole, most)]
        packs = batches.pack(jobs, size) if self._sender.takes_many else [[job] for job in jobs]
        track = options.get("track_tokens")
        total = sum(len(question.documents) for question in questions)
        with progress_bar(options.get("progress", False), total) as advance:
            outcomes = await self._sender.send(
                packs,
                raises=on_error == "raise",
                track=self._track if track is None else track,
                advance=advance,
            )
        elapsed_ms = (time.perf_counter() - started) * 1000
        return batches.merge(questions, outcomes, top_k=top_k, elapsed_ms=elapsed_ms)

    async def compute_scores(
        self, query: str, texts: Sequence[Any], **options: Unpack[CallOptions]
    ) -> list[float]:
        """Scores in the documents' order. Raises a RerankError: no score is made up."""
        return (await self._scored(query, texts, options)).in_order()

    async def score(self, query: str, document: Any, **options: Unpack[CallOptions]) -> float:
        """One document's score."""
        return (await self.compute_scores(query, [document], **options))[0]

    async def similarity(
        self, query: str, texts: Sequence[Any], **options: Unpack[CallOptions]
    ) -> tuple[np.ndarray[Any, np.dtype[np.float64]], int]:
        """Scores in the documents' order [texts], and the tokens they took, as RAG platforms ask.

        Raises ModuleNotFoundError without numpy; `compute_scores` needs none.
        """
        with installed_by("clients"):
            import numpy as np

        found = await self._scored(query, texts, options)
        return np.array(found.in_order(), dtype=np.float64), found.tokens

    async def _scored(
        self, query: str, texts: Sequence[Any], options: CallOptions
    ) -> RerankResults[Any]:
        every: CallOptions = {**options, "top_k": None, "on_error": "raise"}
        return await self.rerank(query, texts, **every)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._sender.aclose()

    async def __aenter__(self) -> AsyncReranker:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()
