"""A LlamaIndex node postprocessor."""

from __future__ import annotations

from typing import Any

from serve_app.client.reranker import Reranker
from serve_app.client.results import RerankResults
from serve_app.errors import installed_by

with installed_by("clients"):
    from llama_index.core.bridge.pydantic import Field
    from llama_index.core.instrumentation import get_dispatcher
    from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
    from llama_index.core.postprocessor.types import BaseNodePostprocessor
    from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle

dispatcher = get_dispatcher(__name__)


class RerankPostprocessor(BaseNodePostprocessor):
    """Keeps the `top_n` most relevant nodes, best first, and sets their score.

    `top_n` None keeps all; nodes that score below `min_score` are dropped. The text of a node
    includes the metadata that the node shows to embedding models. `options` are passed to
    Reranker.rerank: model, instruction, batch_size, ….
    """

    reranker: Reranker = Field(default_factory=Reranker, exclude=True)
    top_n: int | None = Field(default=3, ge=1)
    min_score: float | None = None
    options: dict[str, Any] = Field(default_factory=dict)

    @classmethod
    def class_name(cls) -> str:
        return "RerankPostprocessor"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        query = self._start(nodes, query_bundle)
        return self._end(self.reranker.rerank(query, nodes, **self._options()))

    async def _apostprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        query = self._start(nodes, query_bundle)
        return self._end(await self.reranker.arerank(query, nodes, **self._options()))

    def _options(self) -> Any:
        return {"top_k": self.top_n, "text_field": _text, **self.options}

    def _start(self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None) -> str:
        if query_bundle is None:
            raise ValueError("RerankPostprocessor needs a query: pass query_bundle or query_str")
        dispatcher.event(
            ReRankStartEvent(
                query=query_bundle,
                nodes=nodes,
                top_n=self.top_n or len(nodes),
                model_name=self.options.get("model") or self.reranker.model or "",
            )
        )
        text: str = query_bundle.query_str
        return text

    def _end(self, found: RerankResults[NodeWithScore]) -> list[NodeWithScore]:
        kept = [
            NodeWithScore(node=hit.document.node, score=hit.score)
            for hit in found
            if self.min_score is None or hit.score >= self.min_score
        ]
        dispatcher.event(ReRankEndEvent(nodes=kept))
        return kept


def _text(node: NodeWithScore) -> str:
    text: str = node.node.get_content(metadata_mode=MetadataMode.EMBED)
    return text
