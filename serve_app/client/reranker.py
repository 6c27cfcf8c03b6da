"""The blocking client."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from serve_app.client.core import URL, AsyncReranker, CallOptions, OnError
from serve_app.client.documents import TextField
from serve_app.client.locks import ForkLock
from serve_app.client.loop import LoopThread
from serve_app.client.results import D, RerankResults
from serve_app.client.retry import Retry
from serve_app.client.usage import TokenUsageTracker, shared_tracker
from serve_app.client.wire import DialectName

if TYPE_CHECKING:
    import numpy as np


class ClientOptions(TypedDict, total=False):
    """The constructor's options, the same for both clients; see AsyncReranker."""

    dialect: DialectName
    api_key: str | None
    model: str | None
    batch_size: int
    max_connections: int
    on_error: OnError
    timeout_s: float
    connect_timeout_s: float
    retry: Retry | None
    http2: bool | None
    headers: Mapping[str, str] | None
    extra_body: Mapping[str, Any] | None
    text_field: TextField | None
    track_tokens: bool
    tracker: TokenUsageTracker | None
    tool: str


class Reranker:
    """A blocking version of AsyncReranker; thread-safe.

    After a fork, and after `close`, the next call opens new connections.
    """

    def __init__(self, target: Any = URL, **options: Unpack[ClientOptions]) -> None:
        self._target, self._options = target, options
        self._lock = ForkLock()
        self._open: tuple[int, LoopThread, AsyncReranker] | None = None
        self._core()  # reports an invalid option here rather than at the first call

    @property
    def tracker(self) -> TokenUsageTracker:
        return self._options.get("tracker") or shared_tracker()

    @property
    def model(self) -> str | None:
        return self._options.get("model")

    def rerank(
        self, query: str, documents: Iterable[D], **options: Unpack[CallOptions]
    ) -> RerankResults[D]:
        """See AsyncReranker.rerank."""
        loop, core = self._core()
        return loop.run(core.rerank(query, documents, **options))

    async def arerank(
        self, query: str, documents: Iterable[D], **options: Unpack[CallOptions]
    ) -> RerankResults[D]:
        """Like `rerank`, awaitable on any event loop; for programs that mix both styles."""
        loop, core = self._core()
        return await loop.join(core.rerank(query, documents, **options))

    def batch(
        self, requests: Iterable[tuple[str, Iterable[D]]], **options: Unpack[CallOptions]
    ) -> list[RerankResults[D]]:
        """See AsyncReranker.batch."""
        loop, core = self._core()
        return loop.run(core.batch(requests, **options))

    def compute_scores(
        self, query: str, texts: Sequence[Any], **options: Unpack[CallOptions]
    ) -> list[float]:
        """See AsyncReranker.compute_scores."""
        loop, core = self._core()
        return loop.run(core.compute_scores(query, texts, **options))

    def score(self, query: str, document: Any, **options: Unpack[CallOptions]) -> float:
        """See AsyncReranker.score."""
        loop, core = self._core()
        return loop.run(core.score(query, document, **options))

    def similarity(
        self, query: str, texts: Sequence[Any], **options: Unpack[CallOptions]
    ) -> tuple[np.ndarray[Any, np.dtype[np.float64]], int]:
        """See AsyncReranker.similarity."""
        loop, core = self._core()
        return loop.run(core.similarity(query, texts, **options))

    def close(self) -> None:
        """Close the connections and stop the client's thread."""
        with self._lock:
            opened, self._open = self._open, None
        if opened is not None and opened[0] == os.getpid():
            _, loop, core = opened
            self._finalizer.detach()
            loop.run(core.aclose())
            loop.close()

    def __enter__(self) -> Reranker:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _recreate, (self._target, dict(self._options))

    def _core(self) -> tuple[LoopThread, AsyncReranker]:
        with self._lock:
            # A forked child has a copy of this object, but not its thread.
            if self._open is None or self._open[0] != os.getpid():
                core = AsyncReranker(self._target, **self._options)
                self._open = (os.getpid(), LoopThread(), core)
                # A client that is dropped without `close` must not leave its thread running.
                self._finalizer = weakref.finalize(self, _abandon, *self._open)
                self._finalizer.atexit = False
            return self._open[1:]


def _abandon(pid: int, loop: LoopThread, core: AsyncReranker) -> None:
    if pid == os.getpid():
        loop.close_after(core.aclose())


def _recreate(target: Any, options: ClientOptions) -> Reranker:
    return Reranker(target, **options)
