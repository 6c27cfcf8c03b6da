"""The wire forms: how to build a call's body, and where its answer has the scores.

A form is a function that builds the body, and the field names for reading the answer.
Every form asks for the scores of all documents, without returning their texts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from models.images import ImageDocument
from models.remote.types import ProviderCall
from models.types import Document

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Form:
    """`results`: path to the list of results; `index` and `score`: field names in a result.

    `page_token`: the answer's field with the next page's token, sent back under the same name.
    """

    body: Callable[[ProviderCall], Body]
    results: tuple[str, ...] = ("results",)
    index: str = "index"
    score: str = "relevance_score"
    page_token: str | None = None


def _common(call: ProviderCall) -> Body:
    return {
        **({"model": call.model} if call.model else {}),
        "query": call.query,
        "documents": call.texts,
        "top_n": len(call.documents),
        "return_documents": False,
    }


def _cohere(call: ProviderCall) -> Body:
    # Version 2 does not accept return_documents.
    return {k: v for k, v in _common(call).items() if k != "return_documents"}


def _jina(call: ProviderCall) -> Body:
    """Documents may be texts and images; the query may be an image."""
    query: Any = call.query if call.query_image is None else {"image": call.query_image}
    images = any(isinstance(d, ImageDocument) for d in call.documents)
    documents: list[Any] = [_jina_document(d) for d in call.documents] if images else call.texts
    return {**_common(call), "query": query, "documents": documents}


def _jina_document(document: Document) -> Mapping[str, str]:
    return {"text": document} if isinstance(document, str) else {"image": document.data_uri}


def _voyage(call: ProviderCall) -> Body:
    return {
        "model": call.model,
        "query": call.query,
        "documents": call.texts,
        "top_k": len(call.documents),
        "truncation": True,
    }


def _tei(call: ProviderCall) -> Body:
    return {"query": call.query, "texts": call.texts, "raw_scores": False, "truncate": True}


def _nvidia(call: ProviderCall) -> Body:
    return {
        "model": call.model,
        "query": {"text": call.query},
        "passages": [{"text": text} for text in call.texts],
        "truncate": "END",
    }


def _dashscope(call: ProviderCall) -> Body:
    parameters: Body = {"top_n": len(call.documents)}
    if call.instruction:
        parameters["instruct"] = call.instruction
    return {
        "model": call.model,
        "input": {"query": call.query, "documents": call.texts},
        "parameters": parameters,
    }


def _dashscope_compatible(call: ProviderCall) -> Body:
    instruct = {"instruct": call.instruction} if call.instruction else {}
    return {**_cohere(call), **instruct}


def _bedrock(call: ProviderCall) -> Body:
    model = call.model or ""
    if not model.startswith("arn:"):
        model = f"arn:aws:bedrock:{call.region}::foundation-model/{model}"
    sources = [
        {
            "type": "INLINE",
            "inlineDocumentSource": {"type": "TEXT", "textDocument": {"text": text}},
        }
        for text in call.texts
    ]
    return {
        "queries": [{"type": "TEXT", "textQuery": {"text": call.query}}],
        "sources": sources,
        "rerankingConfiguration": {
            "type": "BEDROCK_RERANKING_MODEL",
            "bedrockRerankingConfiguration": {
                "numberOfResults": len(sources),
                "modelConfiguration": {"modelArn": model},
            },
        },
    }


def _google(call: ProviderCall) -> Body:
    return {
        "model": call.model,
        "query": call.query,
        "records": [{"id": str(i), "content": text} for i, text in enumerate(call.texts)],
        "topN": len(call.documents),
        "ignoreRecordDetailsInResponse": True,
    }


def _pinecone(call: ProviderCall) -> Body:
    return {
        "model": call.model,
        "query": call.query,
        "documents": [{"text": text} for text in call.texts],
        "top_n": len(call.documents),
        "rank_fields": ["text"],
        "return_documents": False,
        "parameters": {"truncate": "END"},
    }


def _mixedbread(call: ProviderCall) -> Body:
    return {
        "model": call.model,
        "query": call.query,
        "input": call.texts,
        "top_k": len(call.documents),
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
    "bedrock": Form(_bedrock, score="relevanceScore", page_token="nextToken"),
    "google": Form(_google, ("records",), index="id", score="score"),
    "pinecone": Form(_pinecone, ("data",), score="score"),
    "mixedbread": Form(_mixedbread, ("data",), score="score"),
}
# Forms without a rerank endpoint: an embedding model, or a language model as the judge.
EMBEDDINGS, CHAT = "embeddings", "chat"
