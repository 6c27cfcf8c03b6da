"""Model names and aliases that requests may use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from serve_app.errors import UnknownModel

# Model names that clients of hosted rerankers and tutorials of open ones use by default.
HOSTED_ALIASES: tuple[str, ...] = (
    "rerank-english-v2.0",
    "rerank-multilingual-v2.0",
    "rerank-english-v3.0",
    "rerank-multilingual-v3.0",
    "rerank-v3.5",
    "rerank-v4.0-fast",
    "rerank-v4.0-pro",
    "rerank-v5.0-pro",
    "jina-reranker-v1-base-en",
    "jina-reranker-v1-turbo-en",
    "jina-reranker-v1-tiny-en",
    "jina-reranker-v2-base-multilingual",
    "jina-reranker-m0",
    "jina-reranker-v3",
    "jina-colbert-v2",
    "rerank-1",
    "rerank-lite-1",
    "rerank-2",
    "rerank-2-lite",
    "rerank-2.5",
    "rerank-2.5-lite",
    "BAAI/bge-reranker-base",
    "BAAI/bge-reranker-large",
    "BAAI/bge-reranker-v2-m3",
    "BAAI/bge-reranker-v2-gemma",
    "bge-reranker-base",
    "bge-reranker-large",
    "bge-reranker-v2-m3",
    "Qwen/Qwen3-Reranker-0.6B",
    "Qwen/Qwen3-Reranker-4B",
    "Qwen/Qwen3-Reranker-8B",
    "mixedbread-ai/mxbai-rerank-xsmall-v1",
    "mixedbread-ai/mxbai-rerank-base-v1",
    "mixedbread-ai/mxbai-rerank-large-v1",
    "mixedbread-ai/mxbai-rerank-base-v2",
    "mixedbread-ai/mxbai-rerank-large-v2",
    "netease-youdao/bce-reranker-base_v1",
    "Alibaba-NLP/gte-reranker-modernbert-base",
    "cross-encoder/ms-marco-MiniLM-L-6-v2",
    "cross-encoder/ms-marco-MiniLM-L-12-v2",
    # infinity_client sends this when no model is given.
    "default/not-specified",
    "nvidia/nv-rerankqa-mistral-4b-v3",
    "nvidia/llama-3.2-nv-rerankqa-1b-v2",
    "nvidia/llama-nemotron-rerank-1b-v2",
)


@dataclass(frozen=True, slots=True)
class Catalog:
    """The names of the served models, the default, and aliases by name."""

    names: tuple[str, ...]
    default: str
    aliases: Mapping[str, str]

    def resolve(self, model: str | None) -> str:
        """Return the served model for a name or alias. Raises UnknownModel."""
        if model is None:
            return self.default
        if model in self.names:
            return model
        if model in self.aliases:
            return self.aliases[model]
        raise UnknownModel(
            f"the model {model!r} is not served here. Models: {', '.join(self.names)}. "
            f"Aliases: {', '.join(sorted(self.aliases)) or 'none'}.",
            param="model",
        )
