"""Guides: a scorer in this process, a Ray handle, a running service."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from models.training.guide import GuideError
from models.types import DEFAULTS, Encoded, Score, ScoreOptions, Scorer, ScoringError, relevance

# Behind whoever waits for an answer; see the native format's `priority`.
PRIORITY = 500
_RETRIED = (429, 502, 503, 504)
_MAX_WAIT_S = 10.0


class ScorerGuide:
    """A model of `models.registry`, loaded in this process.

    `raw` asks for its raw scores, else for relevance scores. `pairs_per_forward` bounds what is
    tokenised at a time; the scorer cuts that into micro-batches itself. Raises ValueError for a
    listwise model: its score of a pair depends on the others beside it.
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
            raise ValueError(f"{scorer.info.name} is listwise: it has no score of a single pair")
        self._scorer = scorer
        self._raw = raw
        self._options = options
        self._pairs = pairs_per_forward

    def score(
        self, queries: Sequence[str], documents: Sequence[Sequence[str]]
    ) -> list[list[float]]:
        """Raises GuideError where the model gives no usable score."""
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

    At most `concurrency` requests of `documents_per_request` are under way. Scores come from the
    service's score store where it has them. `timeout_s` bounds the wait for each answer.
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
        self._fields = _given(model=model, instruction=instruction, priority=priority, sort=False)
        self._value = "logit" if raw else "relevance_score"
        self._concurrency = _positive("concurrency", concurrency)
        self._size = _positive("documents_per_request", documents_per_request)
        self._timeout_s = timeout_s

    def score(
        self, queries: Sequence[str], documents: Sequence[Sequence[str]]
    ) -> list[list[float]]:
        """Raises GuideError where a request fails, with the service's reason."""
        answers: list[list[float]] = [[] for _ in queries]
        under_way: deque[tuple[int, int, Any]] = deque()
        for owner, part in _parts(documents, self._size):
            if len(under_way) == self._concurrency:
                self._take(*under_way.popleft(), answers)
            answer = self._handle.rerank.remote(queries[owner], list(part), **self._fields)
            under_way.append((owner, len(part), answer))
        while under_way:
            self._take(*under_way.popleft(), answers)
        return answers

    def _take(self, owner: int, count: int, answer: Any, answers: list[list[float]]) -> None:
        try:
            results = answer.result(timeout_s=self._timeout_s).results
        except Exception as error:
            reason = str(error) or type(error).__name__
            raise GuideError(f"the Ray handle gave no scores: {reason}") from error
        pairs = [(hit.index, getattr(hit, self._value)) for hit in results]
        answers[owner] += _in_order(pairs, count, "the Ray handle")


class HTTPGuide:
    """A running service over HTTP, in its native format (`POST /rerank`).

    At most `concurrency` requests of `documents_per_request` are under way. Answers that say to
    come back later (429, 502, 503, 504) and broken connections are tried again, `retries` times
    each, after what `Retry-After` says (at most 10 s). Scores come from the service's score store
    where it has them.
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
        self._fields = _given(
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
        """Raises GuideError where the service is not there or refuses, with its reason."""
        answers: list[list[float]] = [[] for _ in queries]
        jobs = list(_parts(documents, self._size))
        with ThreadPoolExecutor(min(self._concurrency, max(1, len(jobs)))) as pool:
            futures = [pool.submit(self._ask, queries[owner], part) for owner, part in jobs]
            try:
                for (owner, _), future in zip(jobs, futures, strict=True):
                    answers[owner] += future.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        return answers

    def _ask(self, query: str, documents: Sequence[str]) -> list[float]:
        body = {"query": query, "documents": list(documents), **self._fields}
        answer = self._post(body)
        if answer.status_code != 200:
            raise GuideError(f"{self._url} answered {answer.status_code}: {answer.text[:500]}")
        try:
            pairs = [(hit["index"], hit["score"]) for hit in answer.json()["results"]]
        except (ValueError, KeyError, TypeError) as error:
            raise GuideError(
                f"{self._url} answered in another format than this service's: {answer.text[:200]}"
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
                        f"no answer from {self._url} ({reason}); start the service by `rerank up`"
                    ) from error
            else:
                if answer.status_code not in _RETRIED or not tries_left:
                    return answer
                said = answer.headers.get("retry-after", "")
                wait_s = min(float(said), _MAX_WAIT_S) if said.isdigit() else wait_s
            time.sleep(wait_s)
        raise AssertionError("unreachable")


class FunctionGuide:
    """A plain function of pairs, as sentence-transformers' `CrossEncoder.predict` is one.

    It takes a list of (query, document) and gives a score for each.
    """

    def __init__(self, function: Callable[[list[tuple[str, str]]], Sequence[float]]) -> None:
        self._function = function

    def score(
        self, queries: Sequence[str], documents: Sequence[Sequence[str]]
    ) -> list[list[float]]:
        """Raises GuideError where the function gives another number of scores than pairs."""
        pairs = [(q, d) for q, part in zip(queries, documents, strict=True) for d in part]
        scores = [float(score) for score in self._function(pairs)]
        if len(scores) != len(pairs):
            raise GuideError(f"the function gave {len(scores)} scores for {len(pairs)} pairs")
        left = iter(scores)
        return [[next(left) for _ in part] for part in documents]


def _parts(documents: Sequence[Sequence[str]], size: int) -> Iterator[tuple[int, Sequence[str]]]:
    for owner, texts in enumerate(documents):
        for begin in range(0, len(texts), size):
            yield owner, texts[begin : begin + size]


def _in_order(pairs: Sequence[tuple[int, float]], count: int, where: str) -> list[float]:
    """Scores by index. Raises GuideError unless each document has one."""
    scores = dict(pairs)
    if len(pairs) != count or set(scores) != set(range(count)):
        raise GuideError(
            f"{where} gave {len(pairs)} scores for {count} documents, not one for each"
        )
    return [scores[i] for i in range(count)]


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _positive(name: str, value: int) -> int:
    if value < 1:
        raise ValueError(f"{name} must be at least 1, not {value}")
    return value
