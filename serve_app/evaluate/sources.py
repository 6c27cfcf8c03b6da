"""Rankers: models in this process, models of a running service, and BM25."""

from __future__ import annotations

from collections.abc import Sequence

from models.types import ModelLoadError, ModelSpec, Scorer, ScoringError
from serve_app.client import Reranker
from serve_app.client.errors import Unreachable
from serve_app.client.retry import Retry
from serve_app.errors import RerankError
from serve_app.evaluate import bm25
from serve_app.evaluate.dataset import Dataset, EvalError
from serve_app.evaluate.rankers import Ranking

WARM_UP = ("warm up", ["a document of a few words"] * 4)
TIMEOUT_S = 120.0


class Local:
    """A model in this process, warmed up; it ranks one query at a time.

    Raises EvalError if the model cannot be loaded.
    """

    concurrency = 1

    def __init__(self, spec: ModelSpec) -> None:
        # Imported here because it imports torch.
        from models import registry

        self.name = spec.name
        try:
            self._scorer: Scorer = registry.load(spec)
        except ModelLoadError as error:
            raise EvalError(str(error)) from None
        self._scorer.score(*WARM_UP)
        # Like a replica; a compiled module would be recompiled for each budget tried.
        if spec.token_budget is None and not spec.compile:
            self._scorer.find_budget()

    def rank(self, query: str, documents: Sequence[str]) -> Ranking:
        try:
            scores = self._scorer.score(query, documents)
        except ScoringError as error:
            raise EvalError(str(error)) from None
        return Ranking(
            hits=by_score([score.logit for score in scores]),
            pairs=len(documents),
            tokens=sum(score.tokens for score in scores),
        )

    def close(self) -> None:
        del self._scorer


class Service:
    """A model of a running service; None is the service's default model.

    Raises EvalError if the service does not respond.
    """

    def __init__(self, url: str, model: str | None, api_key: str | None, concurrency: int) -> None:
        self._url, self.concurrency = url, concurrency
        # Without retries, so that a missing service is reported immediately.
        with self._open(model, api_key, Retry(attempts=0)) as client:
            served = self._ask(client, *WARM_UP)[1]
        self.name = model or served or url
        self._client = self._open(model, api_key, Retry())

    def _open(self, model: str | None, api_key: str | None, retry: Retry) -> Reranker:
        return Reranker(
            self._url,
            api_key=api_key or None,
            model=model,
            max_connections=self.concurrency,
            timeout_s=TIMEOUT_S,
            retry=retry,
            track_tokens=False,
        )

    def rank(self, query: str, documents: Sequence[str]) -> Ranking:
        return self._ask(self._client, query, documents)[0]

    def close(self) -> None:
        self._client.close()

    def _ask(
        self, client: Reranker, query: str, documents: Sequence[str]
    ) -> tuple[Ranking, str | None]:
        try:
            found = client.rerank(query, documents)
        except Unreachable as error:
            raise EvalError(
                f"no service at {self._url} ({error}); start it with `rerank up`, or use --model "
                "to evaluate a model in this process"
            ) from None
        except RerankError as error:
            raise EvalError(str(error)) from None
        hits = [(hit.index, hit.score) for hit in found.hits]
        # 0 means the service does not count tokens, since every pair has some.
        return Ranking(hits, pairs=len(documents), tokens=found.tokens or None), found.model


class Bm25Ranker:
    """BM25 over the candidates of all queries, for data that includes candidates."""

    name = bm25.NAME
    concurrency = 1

    def __init__(self, dataset: Dataset) -> None:
        pool = {name for found in dataset.candidates.values() for name, _ in found}
        texts = {dataset.texts[name]: name for name in sorted(pool)}
        self._ids = texts
        self._index = bm25.Bm25((name, text) for text, name in texts.items())

    def rank(self, query: str, documents: Sequence[str]) -> Ranking:
        scores = self._index.scores(query, [self._ids[text] for text in documents])
        return Ranking(by_score(scores), pairs=len(documents))

    def close(self) -> None:
        return None


def by_score(scores: Sequence[float]) -> list[tuple[int, float]]:
    """Return (index, score) pairs, best first; equal scores keep their order."""
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    return [(i, scores[i]) for i in order]
