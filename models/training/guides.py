"""Guides: a scorer in this process, a Ray handle, a running service, a function."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from models.training.guide import GuideError
from models.types import DEFAULTS, Encoded, Score, ScoreOptions, Scorer, ScoringError, relevance

# Lower than interactive requests; see `priority` of the native dialect.
PRIORITY = 500
_RETRIED = (429, 502, 503, 504)
_MAX_WAIT_S = 10.0


class ScorerGuide:
    """A model loaded in this process by `models.registry`.

    `raw` selects raw scores, else relevance. `pairs_per_forward` limits the pairs tokenised at a
    time; the scorer splits them into micro-batches itself. Raises ValueError for a listwise model,
    where the score of a pair depends on the other documents.
    """

    def __init__(
        self,
        scorer: Scorer,
        *,
        raw: bool = True,
        options: ScoreOptions = DEFAULTS,
        pairs_per_forward: int = 1024,
    ) -> None:
        if scorer.info.listwise:
            raise ValueError(f"{scorer.info.name} is listwise: it cannot score a single pair")
        self._scorer = scorer
        self._raw = raw
        self._options = options
        self._pairs = pairs_per_forward

    def score(
        self, queries: Sequence[str], documents: Sequence[Sequence[str]]
    ) -> list[list[float]]:
        """Raises GuideError if the model returns no usable score."""
        answers: list[list[float]] = [[] for _ in queries]
        owners: list[int] = []
        encoded: list[Encoded] = []
        waiting = 0
        try:
            for owner, part in _parts(documents, self._pairs):
                encoded.append(self._scorer.encode(queries[owner], part, self._options))
                owners.append(owner)
                waiting += len(part)
                if waiting >= self._pairs:
                    self._forward(owners, encoded, answers)
                    owners, encoded, waiting = [], [], 0
            if encoded:
                self._forward(owners, encoded, answers)
        except ScoringError as error:
            raise GuideError(str(error)) from error
        return answers

    def _forward(
        self, owners: Sequence[int], encoded: Sequence[Encoded], answers: list[list[float]]
    ) -> None:
        for owner, scores in zip(owners, self._scorer.forward(encoded), strict=True):
            answers[owner] += [self._value(score) for score in scores]

    def _value(self, score: Score) -> float:
        if self._raw:
            return score.logit
        return relevance(score.logit, self._scorer.info.activation)


class HandleGuide:
    """A Ray Serve handle of the application: `serve.get_app_handle(name)`.

    Sends requests of `documents_per_request`, at most `concurrency` at a time. Scores in the
    service's score store are not computed again. `timeout_s` limits the wait for each result.
    """

    def __init__(
        self,
        handle: Any,
        *,
        model: str | None = None,
        instruction: str | None = None,
        raw: bool = True,
        priority: int = PRIORITY,
        concurrency: int = 8,
        documents_per_request: int = 256,
        timeout_s: float = 120.0,
    ) -> None:
        self._handle = handle
        self._fields = _without_none(
            model=model, instruction=instruction, priority=priority, sort=False
        )
        self._value = "logit" if raw else "relevance_score"
        self._concurrency = _positive("concurrency", concurrency)
        self._size = _positive("documents_per_request", documents_per_request)
        self._timeout_s = timeout_s

    def score(
        self, queries: Sequence[str], documents: Sequence[Sequence[str]]
    ) -> list[list[float]]:
        """Raises GuideError if a request fails, with the service's reason."""
        answers: list[list[float]] = [[] for _ in queries]
        pending: deque[tuple[int, int, Any]] = deque()
        for owner, part in _parts(documents, self._size):
            if len(pending) == self._concurrency:
                self._take(*pending.popleft(), answers)
            answer = self._handle.rerank.remote(queries[owner], list(part), **self._fields)
            pending.append((owner, len(part), answer))
        while pending:
            self._take(*pending.popleft(), answers)
        return answers

    def _take(self, owner: int, count: int, answer: Any, answers: list[list[float]]) -> None:
        try:
            results = answer.result(timeout_s=self._timeout_s).results
        except Exception as error:
            reason = str(error) or type(error).__name__
            raise GuideError(f"the Ray handle returned no scores: {reason}") from error
        pairs = [(hit.index, getattr(hit, self._value)) for hit in results]
        answers[owner] += _in_order(pairs, count, "the Ray handle")


class HTTPGuide:
    """A running service over HTTP, in the native dialect (`POST /rerank`).

    Sends requests of `documents_per_request`, at most `concurrency` at a time. Temporary failures
    (429, 502, 503, 504) and connection errors are retried up to `retries` times, after Retry-After
    (at most 10 s) or with exponential backoff. Scores in the service's score store are not
    computed again.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str | None = None,
        instruction: str | None = None,
        raw: bool = True,
        api_key: str | None = None,
        priority: int = PRIORITY,
        concurrency: int = 8,
        documents_per_request: int = 256,
        timeout_s: float = 120.0,
        retries: int = 5,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._url = f"{url.rstrip('/')}/rerank"
        self._fields = _without_none(
            model=model,
            instruction=instruction,
            priority=priority,
            raw_scores=raw,
            return_documents=False,
            sort=False,
        )
        self._size = _positive("documents_per_request", documents_per_request)
        self._concurrency = _positive("concurrency", concurrency)
        self._retries = retries
        self._client = httpx.Client(
            headers={"authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=timeout_s,
            transport=transport,
            trust_env=False,
            limits=httpx.Limits(max_connections=concurrency),
        )

    def score(
        self, queries: Sequence[str], documents: Sequence[Sequence[str]]
    ) -> list[list[float]]:
        """Raises GuideError if the service is unreachable or rejects a request, with the reason."""
        answers: list[list[float]] = [[] for _ in queries]
        jobs = list(_parts(documents, self._size))
        with ThreadPoolExecutor(min(self._concurrency, max(1, len(jobs)))) as pool:
            futures = [pool.submit(self._score_part, queries[owner], part) for owner, part in jobs]
            try:
                for (owner, _), future in zip(jobs, futures, strict=True):
                    answers[owner] += future.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        return answers

    def _score_part(self, query: str, documents: Sequence[str]) -> list[float]:
        body = {"query": query, "documents": list(documents), **self._fields}
        answer = self._post(body)
        if answer.status_code != 200:
            raise GuideError(f"{self._url} returned {answer.status_code}: {answer.text[:500]}")
        try:
            pairs = [(hit["index"], hit["score"]) for hit in answer.json()["results"]]
        except (ValueError, KeyError, TypeError) as error:
            raise GuideError(
                f"{self._url} returned an unknown format, not this service's: {answer.text[:200]}"
            ) from error
        return _in_order(pairs, len(documents), self._url)

    def _post(self, body: dict[str, Any]) -> httpx.Response:
        for tries_left in range(self._retries, -1, -1):
            wait_s = min(0.5 * 2 ** (self._retries - tries_left), _MAX_WAIT_S)
            try:
                answer = self._client.post(self._url, json=body)
            except httpx.HTTPError as error:
                if not tries_left:
                    reason = str(error) or type(error).__name__
                    raise GuideError(
                        f"cannot reach {self._url} ({reason}); start the service with `rerank up`"
                    ) from error
            else:
                if answer.status_code not in _RETRIED or not tries_left:
                    return answer
                retry_after = answer.headers.get("retry-after", "")
                if retry_after.isdigit():
                    wait_s = min(float(retry_after), _MAX_WAIT_S)
            time.sleep(wait_s)
        raise AssertionError("unreachable")


class FunctionGuide:
    """A function that scores a list of (query, document) pairs.

    For example, `predict` of a sentence-transformers `CrossEncoder`.
    """

    def __init__(self, function: Callable[[list[tuple[str, str]]], Sequence[float]]) -> None:
        self._function = function

    def score(
        self, queries: Sequence[str], documents: Sequence[Sequence[str]]
    ) -> list[list[float]]:
        """Raises GuideError unless the function returns one score per pair."""
        pairs = [(q, d) for q, part in zip(queries, documents, strict=True) for d in part]
        scores = [float(score) for score in self._function(pairs)]
        if len(scores) != len(pairs):
            raise GuideError(f"the function returned {len(scores)} scores for {len(pairs)} pairs")
        remaining = iter(scores)
        return [[next(remaining) for _ in part] for part in documents]


def _parts(documents: Sequence[Sequence[str]], size: int) -> Iterator[tuple[int, Sequence[str]]]:
    for owner, texts in enumerate(documents):
        for begin in range(0, len(texts), size):
            yield owner, texts[begin : begin + size]


def _in_order(pairs: Sequence[tuple[int, float]], count: int, source: str) -> list[float]:
    """Scores sorted by index. Raises GuideError unless each document has exactly one."""
    scores = dict(pairs)
    if len(pairs) != count or set(scores) != set(range(count)):
        raise GuideError(
            f"{source} returned {len(pairs)} scores for {count} documents, not one per document"
        )
    return [scores[i] for i in range(count)]


def _without_none(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _positive(name: str, value: int) -> int:
    if value < 1:
        raise ValueError(f"{name} must be at least 1, not {value}")
    return value
