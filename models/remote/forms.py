"""The wire forms: how each asks, and where its answer has the scores.

A form is a function that makes a call's body, and a few words that say how to read the answer.
Every form asks for all documents' scores and for no document back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from models.images import ImageDocument
from models.remote.types import Ask
from models.types import Document

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Form:
    """`results`: the way to the list of scores; `index` and `score`: the names in its entries.

    `token`: the answer's field that asks for another page, sent back under the same name.
    """

    body: Callable[[Ask], Body]
    results: tuple[str, ...] = ("results",)
    index: str = "index"
    score: str = "relevance_score"
    token: str | None = None


def _common(ask: Ask) -> Body:
    return {
        **({"model": ask.model} if ask.model else {}),
        "query": ask.query,
        "documents": ask.texts,
        "top_n": len(ask.documents),
        "return_documents": False,
    }


def _cohere(ask: Ask) -> Body:
    # Version 2 knows no return_documents.
    return {k: v for k, v in _common(ask).items() if k != "return_documents"}


def _jina(ask: Ask) -> Body:
    """Texts and images side by side; an image as the query where one is asked for."""
    query: Any = ask.query if ask.query_image is None else {"image": ask.query_image}
    images = any(isinstance(d, ImageDocument) for d in ask.documents)
    documents: list[Any] = [_jina_document(d) for d in ask.documents] if images else ask.texts
    return {**_common(ask), "query": query, "documents": documents}


def _jina_document(document: Document) -> Mapping[str, str]:
    return {"text": document} if isinstance(document, str) else {"image": document.data_uri}


def _voyage(ask: Ask) -> Body:
    return {
        "model": ask.model,
        "query": ask.query,
        "documents": ask.texts,
        "top_k": len(ask.documents),
        "truncation": True,
    }


def _tei(ask: Ask) -> Body:
    return {"query": ask.query, "texts": ask.texts, "raw_scores": False, "truncate": True}


def _nvidia(ask: Ask) -> Body:
    return {
        "model": ask.model,
        "query": {"text": ask.query},
        "passages": [{"text": text} for text in ask.texts],
        "truncate": "END",
    }


def _dashscope(ask: Ask) -> Body:
    parameters: Body = {"top_n": len(ask.documents)}
    if ask.instruction:
        parameters["instruct"] = ask.instruction
    return {
        "model": ask.model,
        "input": {"query": ask.query, "documents": ask.texts},
        "parameters": parameters,
    }


def _dashscope_compatible(ask: Ask) -> Body:
    instruct = {"instruct": ask.instruction} if ask.instruction else {}
    return {**_cohere(ask), **instruct}


def _bedrock(ask: Ask) -> Body:
    model = ask.model or ""
    if not model.startswith("arn:"):
        model = f"arn:aws:bedrock:{ask.region}::foundation-model/{model}"
    sources = [
        {
            "type": "INLINE",
            "inlineDocumentSource": {"type": "TEXT", "textDocument": {"text": text}},
        }
        for text in ask.texts
    ]
    return {
        "queries": [{"type": "TEXT", "textQuery": {"text": ask.query}}],
        "sources": sources,
        "rerankingConfiguration": {
            "type": "BEDROCK_RERANKING_MODEL",
            "bedrockRerankingConfiguration": {
                "numberOfResults": len(sources),
                "modelConfiguration": {"modelArn": model},
            },
        },
    }


def _google(ask: Ask) -> Body:
    return {
        "model": ask.model,
        "query": ask.query,
        "records": [{"id": str(i), "content": text} for i, text in enumerate(ask.texts)],
        "topN": len(ask.documents),
        "ignoreRecordDetailsInResponse": True,
    }


def _pinecone(ask: Ask) -> Body:
    return {
        "model": ask.model,
        "query": ask.query,
        "documents": [{"text": text} for text in ask.texts],
        "top_n": len(ask.documents),
        "rank_fields": ["text"],
        "return_documents": False,
        "parameters": {"truncate": "END"},
    }


def _mixedbread(ask: Ask) -> Body:
    return {
        "model": ask.model,
        "query": ask.query,
        "input": ask.texts,
        "top_k": len(ask.documents),
        "return_input": False,
    }


FORMS: Mapping[str, Form] = {
    "common": Form(_common),
    "cohere": Form(_cohere),
    "jina": Form(_jina),
    "voyage": Form(_voyage, ("data",)),
    "tei": Form(_tei, (), score="score"),
    "nvidia": Form(_nvidia, ("rankings",), score="logit"),
    "dashscope": Form(_dashscope, ("output", "results")),
    "dashscope-compatible": Form(_dashscope_compatible),
    "bedrock": Form(_bedrock, score="relevanceScore", token="nextToken"),
    "google": Form(_google, ("records",), index="id", score="score"),
    "pinecone": Form(_pinecone, ("data",), score="score"),
    "mixedbread": Form(_mixedbread, ("data",), score="score"),
}
# Forms without a rerank endpoint: texts as vectors, or a language model as the judge.
EMBEDDINGS, CHAT = "embeddings", "chat"
