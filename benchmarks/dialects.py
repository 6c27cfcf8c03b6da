"""A request in each dialect, and how to read the scores in its response."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.raw_http import Request

Scores = dict[int, float]


@dataclass(frozen=True)
class Dialect:
    """`body`: the fields for a query and documents. `results`: the results in the response.

    `raw`: the scores are the model's own, before the activation.
    """

    path: str
    body: Callable[[str, Sequence[str]], dict[str, Any]]
    results: Callable[[Any], list[dict[str, Any]]]
    score: str = "relevance_score"
    raw: bool = False

    def request(self, query: str, documents: Sequence[str]) -> Request:
        return Request.json(self.path, self.body(query, documents))

    def scores(self, answer: Any) -> Scores:
        """Return the score of each document by its index.

        Raises LookupError, TypeError or ValueError if the response has another form.
        """
        return {int(result["index"]): float(result[self.score]) for result in self.results(answer)}


def _documents(**fields: Any) -> Callable[[str, Sequence[str]], dict[str, Any]]:
    return lambda query, texts: {"query": query, "documents": texts, **fields}


def _objects(query: str, texts: Sequence[str]) -> dict[str, Any]:
    documents = [{"title": text, "id": i} for i, text in enumerate(texts)]
    return {"query": query, "documents": documents, "rank_fields": ["title"]}


def _listed(name: str) -> Callable[[Any], list[dict[str, Any]]]:
    def results(answer: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = answer[name]
        return found

    return results


def _bare(answer: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = answer
    return found


_RESULTS, _DATA = _listed("results"), _listed("data")

DIALECTS: Mapping[str, Dialect] = {
    "native": Dialect("/rerank", _documents(return_documents=False), _RESULTS),
    "native, objects": Dialect("/rerank", _objects, _RESULTS),
    "batch": Dialect(
        "/rerank/batch",
        lambda query, texts: {"queries": ["what fell?", query], "documents": texts},
        lambda answer: _RESULTS(answer["answers"][1]),
    ),
    "Cohere v1": Dialect("/v1/rerank", _documents(return_documents=True), _RESULTS),
    "Cohere v2": Dialect("/v2/rerank", _documents(priority=5), _RESULTS),
    "Jina": Dialect("/v1/rerank", _documents(max_doc_length=512), _RESULTS),
    "Voyage": Dialect("/voyage/v1/rerank", _documents(truncation=True), _DATA),
    "TEI": Dialect(
        "/rerank",
        lambda query, texts: {"query": query, "texts": texts, "raw_scores": False},
        _bare,
        score="score",
    ),
    "llama.cpp": Dialect("/reranking", _documents(top_n=1_000), _RESULTS),
    "Xinference": Dialect(
        "/v1/rerank", _documents(return_documents="true", return_len="true"), _RESULTS
    ),
    "vLLM rerank": Dialect("/vllm/rerank", _documents(truncate_prompt_tokens=256), _RESULTS),
    "vLLM score": Dialect(
        "/score", lambda query, texts: {"text_1": query, "text_2": texts}, _DATA, score="score"
    ),
    "vLLM score, pairs": Dialect(
        "/v1/score",
        lambda query, texts: {"queries": [query] * len(texts), "documents": texts},
        _DATA,
        score="score",
    ),
    "SGLang": Dialect("/sglang/v1/rerank", _documents(), _bare, score="score"),
    "Mixedbread": Dialect(
        "/v1/reranking",
        lambda query, texts: {"query": query, "input": texts, "return_input": True},
        _DATA,
        score="score",
    ),
    "NIM": Dialect(
        "/v1/ranking",
        lambda query, texts: {
            "query": {"text": query},
            "passages": [{"text": text} for text in texts],
        },
        _listed("rankings"),
        score="logit",
        raw=True,
    ),
}
