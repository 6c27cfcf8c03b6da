"""A Haystack ranker."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from serve_app.client.core import URL, CallOptions
from serve_app.client.reranker import Reranker
from serve_app.client.results import RerankResults
from serve_app.client.wire import DialectName
from serve_app.errors import installed_by

with installed_by("clients"):
    from haystack import Document, component, default_from_dict, default_to_dict
    from haystack.utils import Secret


@component
class RerankRanker:
    """Ranks documents by relevance, best first, and sets their `score`.

    `url`, `dialect` and `model` are passed to Reranker. `api_key` defaults to the environment
    variable RERANK_API_KEY. `top_k` None keeps all documents; those that score below
    `score_threshold` are dropped. `meta_fields_to_embed`: metadata fields to prepend to a
    document's text, one per line. `options` are passed to Reranker.rerank: instruction,
    batch_size, ….
    """

    def __init__(
        self,
        url: str = URL,
        *,
        dialect: DialectName = "native",
        api_key: Secret | None = Secret.from_env_var("RERANK_API_KEY", strict=False),  # noqa: B008
        model: str | None = None,
        top_k: int | None = 10,
        score_threshold: float | None = None,
        meta_fields_to_embed: list[str] | None = None,
        options: dict[str, Any] | None = None,
    ) -> None:
        self.url = url
        self.dialect: DialectName = dialect
        self.api_key = api_key
        self.model = model
        self.top_k = top_k
        self.score_threshold = score_threshold
        self.meta_fields_to_embed = meta_fields_to_embed or []
        self.options = options or {}
        key = api_key.resolve_value() if api_key is not None else None
        self._reranker = Reranker(url, dialect=dialect, api_key=key, model=model)

    def to_dict(self) -> dict[str, Any]:
        """Serialize for a pipeline's YAML: the API key's variable name, never the key itself."""
        data: dict[str, Any] = default_to_dict(
            self,
            url=self.url,
            dialect=self.dialect,
            api_key=self.api_key.to_dict() if self.api_key is not None else None,
            model=self.model,
            top_k=self.top_k,
            score_threshold=self.score_threshold,
            meta_fields_to_embed=self.meta_fields_to_embed,
            options=self.options,
        )
        return data

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> RerankRanker:
        """Recreate a component from the output of `to_dict`."""
        parameters = dict(data["init_parameters"])
        if isinstance(parameters.get("api_key"), dict):
            parameters["api_key"] = Secret.from_dict(parameters["api_key"])
        ranker: RerankRanker = default_from_dict(cls, {**data, "init_parameters": parameters})
        return ranker

    @component.output_types(documents=list[Document])
    def run(
        self,
        query: str,
        documents: list[Document],
        top_k: int | None = None,
        score_threshold: float | None = None,
    ) -> dict[str, Any]:
        """Rank `documents`. Raises a RerankError."""
        found = self._reranker.rerank(query, documents, **self._options(top_k))
        return self._ranked(found, score_threshold)

    @component.output_types(documents=list[Document])
    async def run_async(
        self,
        query: str,
        documents: list[Document],
        top_k: int | None = None,
        score_threshold: float | None = None,
    ) -> dict[str, Any]:
        """Rank `documents`. Raises a RerankError."""
        found = await self._reranker.arerank(query, documents, **self._options(top_k))
        return self._ranked(found, score_threshold)

    def _options(self, top_k: int | None) -> CallOptions:
        top_k = self.top_k if top_k is None else top_k
        return CallOptions(**{"top_k": top_k, "text_field": self._text, **self.options})  # type: ignore[typeddict-item]

    def _text(self, document: Document) -> str:
        fields = [document.meta.get(name) for name in self.meta_fields_to_embed]
        return "\n".join([str(f) for f in fields if f is not None] + [document.content or ""])

    def _ranked(
        self, found: RerankResults[Document], score_threshold: float | None
    ) -> dict[str, Any]:
        minimum = self.score_threshold if score_threshold is None else score_threshold
        kept = [hit for hit in found if minimum is None or hit.score >= minimum]
        return {"documents": [replace(hit.document, score=hit.score) for hit in kept]}
