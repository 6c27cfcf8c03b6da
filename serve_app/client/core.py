"""The client's core: cut, send, merge, count. Everything else is a way to call it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypedDict, TypeVar, Unpack

import httpx

from serve_app.client import batches
from serve_app.client.documents import TextField, read
from serve_app.client.progress import Progress, progress_bar
from serve_app.client.results import D, RerankResults
from serve_app.client.retry import Retry
from serve_app.client.transport import Handle, Http, Transport
from serve_app.client.usage import TokenUsageTracker, shared_tracker
from serve_app.client.wire import Answer, DialectName, Job
from serve_app.errors import InvalidRequest, RerankError

if TYPE_CHECKING:
    import numpy as np

URL = "http://127.0.0.1:8000"
BATCH_SIZE = 2000
OnError = Literal["raise", "report"]
T = TypeVar("T")


class CallOptions(TypedDict, total=False):
    """What `rerank` and `batch` take beside queries and documents; see AsyncReranker.rerank."""

    top_k: int | None
    model: str | None
    instruction: str | None
    max_tokens_per_doc: int | None
    long_document: Literal["truncate", "max_passage"] | None
    query_image_url: str | None
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
        self._batch_size = _positive(batch_size, "batch_size")
        self._on_error: OnError = on_error
        self._text_field = text_field
        self._retry = retry or Retry()
        self._tool = tool
        self._track = track_tokens
        self.tracker = tracker if tracker is not None else shared_tracker()
        self._gate = asyncio.Semaphore(_positive(max_connections, "max_connections"))
        self._transport: Transport
        if isinstance(target, str):
            self._transport = Http(
                target,
                dialect=dialect,
                api_key=api_key,
                headers=headers,
                extra_body=extra_body,
                timeout_s=timeout_s,
                connect_timeout_s=connect_timeout_s,
                max_connections=max_connections,
                http2=http2,
                client=client,
            )
        else:
            self._transport = Handle(target, timeout_s=timeout_s, extra=extra_body)

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
        text_field: TextField | None = None,
        batch_size: int | None = None,
        on_error: OnError | None = None,
        progress: Progress = False,
        track_tokens: bool | None = None,
    ) -> RerankResults[D]:
        """Documents by falling relevance to `query`; all of them, or the best `top_k`.

        A document is a string, a dict with a text field, or an object with one; it comes back
        as it was given, its metadata beside it. No documents: no request, an empty result.
        `progress`: True for a bar, or a function of (documents done, documents).
        Raises a RerankError, with a note of which documents it concerns.
        """
        started = time.perf_counter()
        given = list(documents)
        if top_k is not None:
            _positive(top_k, "top_k")
        where = text_field if text_field is not None else self._text_field
        readables = [read(document, i, where) for i, document in enumerate(given)]
        jobs = batches.cut(
            query,
            readables,
            self._batch_size if batch_size is None else _positive(batch_size, "batch_size"),
            top_k=top_k,
            model=model or self.model,
            options={
                "instruction": instruction,
                "max_tokens_per_doc": max_tokens_per_doc,
                "long_document": long_document,
                "query_image_url": query_image_url,
            },
        )
        track = self._track if track_tokens is None else track_tokens
        with progress_bar(progress, len(given)) as advance:
            outcomes = await self._send_all(jobs, on_error or self._on_error, track, advance)
        elapsed_ms = (time.perf_counter() - started) * 1000
        return batches.merge(query, given, readables, outcomes, top_k=top_k, elapsed_ms=elapsed_ms)

    async def batch(
        self, requests: Iterable[tuple[str, Sequence[D]]], **options: Unpack[CallOptions]
    ) -> list[RerankResults[D]]:
        """One result for each (query, documents), in their order, all in flight at once.

        `options` are those of `rerank`, for every request.
        """
        asked = list(requests)
        total = sum(len(documents) for _, documents in asked)
        with progress_bar(options.get("progress", False), total) as advance:

            def watcher() -> Callable[[int, int], None]:
                seen = 0

                def report(done: int, _: int) -> None:
                    nonlocal seen
                    advance(done - seen)
                    seen = done

                return report

            every: list[CallOptions] = [{**options, "progress": watcher()} for _ in asked]
            return await _all(
                self.rerank(query, documents, **own)
                for (query, documents), own in zip(asked, every, strict=True)
            )

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
        await self._transport.aclose()

    async def __aenter__(self) -> AsyncReranker:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    async def _send_all(
        self,
        jobs: Sequence[Job],
        on_error: OnError,
        track: bool,
        advance: Callable[[int], None],
    ) -> list[tuple[Job, batches.Outcome]]:
        async def one(job: Job) -> tuple[Job, batches.Outcome]:
            try:
                answer = await self._send(job, track)
            except RerankError as error:
                failed = batches.indices(job)
                error.add_note(f"documents {failed.start} to {failed.stop - 1}")
                if on_error == "raise":
                    raise
                return job, error
            finally:
                advance(len(job.documents))
            return job, answer

        return await _all(one(job) for job in jobs)

    async def _send(self, job: Job, track: bool) -> Answer:
        """The batch's answer, tried again where that may help."""
        tried = 0
        # The slot is kept through the pauses: a server that is full gets no more meanwhile.
        async with self._gate:
            while True:
                try:
                    answer = await self._transport.send(job)
                    break
                except RerankError as error:
                    tried += 1
                    pause = self._retry.pause(tried, error)
                    if pause is None:
                        raise
                await asyncio.sleep(pause)
        if track:
            name = answer.model or job.model or "default"
            self.tracker.record(self._tool, name, answer.tokens)
        return answer


async def _all(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """All results in order; the first error, once the others are cancelled."""
    # No TaskGroup: before Python 3.11.9 one that fails leaves its task marked as cancelled,
    # which breaks callers that run on anyio.
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


def _positive(value: int, name: str) -> int:
    if value < 1:
        raise InvalidRequest(f"{name} must be at least 1, not {value}", param=name)
    return value
