"""The async client: split documents into batches, send them, merge the scores."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Unpack

from serve_app.client import batches
from serve_app.client.arguments import one_of, pairs, positive, seconds
from serve_app.client.documents import TextField
from serve_app.client.progress import Progress, progress_bar
from serve_app.client.results import D, RerankResults
from serve_app.client.retry import Retry
from serve_app.client.sender import Sender
from serve_app.client.spans import Spans, request_field
from serve_app.client.transport import Handle, Transport
from serve_app.client.usage import TokenUsageTracker, shared_tracker
from serve_app.client.wire import DialectName
from serve_app.errors import InvalidRequest, installed_by
from serve_app.request_options import RequestOptions

if TYPE_CHECKING:
    import httpx
    import numpy as np

URL = "http://127.0.0.1:8000"
BATCH_SIZE = 2000
OnError = Literal["raise", "report"]
ON_ERROR = ("raise", "report")
# The options that are request fields of the same name; the model has a default of its own.
_SENT = RequestOptions.__annotations__.keys() - {"model"}


class CallOptions(RequestOptions, total=False):
    """The keyword arguments of `rerank` and `batch`; see AsyncReranker.rerank."""

    top_k: int | None
    relevant_spans: Spans
    text_field: TextField | None
    batch_size: int | None
    on_error: OnError | None
    progress: Progress
    track_tokens: bool | None


class AsyncReranker:
    """An async client of one reranker, for one event loop.

    `target`: the service's URL, a hosted provider's base URL, or a Ray DeploymentHandle.
    `dialect`: `native` for this service; `cohere`, `jina` or `voyage` for APIs of that format.
    `api_key` is sent as a bearer token. `model` is the default for calls without a model.
    `batch_size`: maximum documents per request. `max_connections`: maximum concurrent requests.
    `on_error`: raise the error of a failed batch, or report it alongside the other results.
    `timeout_s` and `connect_timeout_s` limit each attempt; `retry` controls further attempts.
    `http2` None uses HTTP/2 if the h2 package is installed and the server supports it.
    `extra_body`: fields added to every request, also through a handle (such as `priority`).
    `text_field`: the key, attribute or function that yields a document's text.
    `tracker` counts tokens under `tool`, unless `track_tokens` is False; default: the shared one.
    `client`: the caller's own httpx client, which the caller closes.
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
            # Imported here because httpx takes half of the client's import time.
            from serve_app.client.http_transport import Http

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
                f"target must be a URL or a Ray DeploymentHandle, not {type(target).__name__}",
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
        self, query: str, documents: Iterable[D], **options: Unpack[CallOptions]
    ) -> RerankResults[D]:
        """Rank documents by relevance to `query`; return all of them, or the best `top_k`.

        A document is a string, a dict with a text field, or an object with one; each hit holds
        the original document and its metadata. Without documents, no request is sent and the
        result is empty.
        `model`, `instruction`, `max_tokens_per_doc`, `long_document` and `query_image_url` are
        passed to the service. `relevant_spans`: True or SpanOptions fills each hit's `spans`.
        `pipeline`: stages to run instead of a model, with all documents in one request;
        `budget_ms` limits the pipeline's time.
        `text_field`, `batch_size`, `on_error` and `track_tokens` override the client's settings.
        `progress`: True for a progress bar, or a function called with (done, total) documents.
        Raises a RerankError, with a note that says which documents it concerns.
        """
        _refuse_unknown(options, "rerank")
        return (await self._ranked([(query, documents)], options))[0]

    async def batch(
        self, requests: Iterable[tuple[str, Iterable[D]]], **options: Unpack[CallOptions]
    ) -> list[RerankResults[D]]:
        """Rank several (query, documents) pairs concurrently; return one result each, in order.

        Several queries share a request if the server supports it. With `on_error="report"`, a
        failed query's error is in its own result. `options` are those of `rerank` and apply to
        every query; `elapsed_ms` is the duration of the whole call.
        """
        _refuse_unknown(options, "batch")
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
        shared = batches.SharedFields(
            top_k=top_k,
            # A pipeline's stages name their own models.
            model=options.get("model") or (None if options.get("pipeline") else self.model),
            options={name: options.get(name) for name in _SENT}
            | {"relevant_spans": request_field(options.get("relevant_spans"))},
        )
        on_error = options.get("on_error") or self._on_error
        one_of(on_error, ON_ERROR, "on_error")
        text_field = options.get("text_field")
        text_field = self._text_field if text_field is None else text_field
        several = len(requests) > 1
        entries = [
            batches.prepare(query, documents, text_field, i if several else None)
            for i, (query, documents) in enumerate(requests)
        ]
        # A pipeline must see all documents at once: its stages rank and drop among them.
        limit = sys.maxsize if options.get("pipeline") else size
        parts = [batch for entry in entries for batch in batches.split(entry, shared, limit)]
        grouped = batches.group(parts, size) if self._sender.takes_many else [[b] for b in parts]
        track = options.get("track_tokens")
        total = sum(len(entry.documents) for entry in entries)
        with progress_bar(options.get("progress", False), total) as advance:
            outcomes = await self._sender.send(
                grouped,
                raises=on_error == "raise",
                track=self._track if track is None else track,
                advance=advance,
            )
        elapsed_ms = (time.perf_counter() - started) * 1000
        return batches.merge(entries, outcomes, top_k=top_k, elapsed_ms=elapsed_ms)

    async def compute_scores(
        self, query: str, texts: Sequence[Any], **options: Unpack[CallOptions]
    ) -> list[float]:
        """Return scores in the documents' order. Raises a RerankError if any is missing."""
        return (await self._scored(query, texts, options)).in_order()

    async def score(self, query: str, document: Any, **options: Unpack[CallOptions]) -> float:
        """Return the score of one document."""
        return (await self.compute_scores(query, [document], **options))[0]

    async def similarity(
        self, query: str, texts: Sequence[Any], **options: Unpack[CallOptions]
    ) -> tuple[np.ndarray[Any, np.dtype[np.float64]], int]:
        """Return scores [texts] in the documents' order and the token count, for RAG platforms.

        Raises ModuleNotFoundError if numpy is not installed; `compute_scores` does not need it.
        """
        with installed_by("clients"):
            import numpy as np

        found = await self._scored(query, texts, options)
        return np.array(found.in_order(), dtype=np.float64), found.tokens

    async def _scored(
        self, query: str, texts: Sequence[Any], options: CallOptions
    ) -> RerankResults[Any]:
        complete: CallOptions = {**options, "top_k": None, "on_error": "raise"}
        return await self.rerank(query, texts, **complete)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._sender.aclose()

    async def __aenter__(self) -> AsyncReranker:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()


def _refuse_unknown(options: CallOptions, method: str) -> None:
    if unknown := options.keys() - CallOptions.__annotations__.keys():
        raise TypeError(f"{method}() got an unexpected keyword argument {min(unknown)!r}")
