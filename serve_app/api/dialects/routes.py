"""Which dialects a path serves, and how a body's dialect is recognised among them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from serve_app.api.dialects.base import Wire
from serve_app.api.dialects.batch import BATCH
from serve_app.api.dialects.cohere import JINA, V1, V1_DATA, V2, VLLM_V1, VLLM_V2
from serve_app.api.dialects.mixedbread import MIXEDBREAD
from serve_app.api.dialects.native import NATIVE
from serve_app.api.dialects.nim import NIM
from serve_app.api.dialects.score import SCORE
from serve_app.api.dialects.sglang import SGLANG
from serve_app.api.dialects.tei import TEI
from serve_app.api.dialects.voyage import VOYAGE

Test = Callable[[Mapping[str, Any]], bool]


@dataclass(frozen=True, slots=True)
class Rule:
    """The dialects of a path: the first choice whose test the body passes, else `otherwise`."""

    otherwise: Wire
    choices: tuple[tuple[Test, Wire], ...] = ()

    def choose(self, body: Mapping[str, Any]) -> Wire:
        for matches, dialect in self.choices:
            if matches(body):
                return dialect
        return self.otherwise

    @property
    def dialects(self) -> tuple[Wire, ...]:
        return (self.otherwise, *(dialect for _, dialect in self.choices))


def has_any(*names: str) -> Test:
    """Test whether the body has one of these fields with a value other than null."""
    return lambda body: any(body.get(name) is not None for name in names)


def from_voyage(body: Mapping[str, Any]) -> bool:
    return body.get("top_n") is None and has_any("top_k", "truncation")(body)


def from_jina(body: Mapping[str, Any]) -> bool:
    model = body.get("model")
    named = isinstance(model, str) and model.startswith(("jina-", "jinaai/"))
    return named or has_any("max_doc_length", "return_embeddings")(body) or _has_image(body)


def _has_image(body: Mapping[str, Any]) -> bool:
    documents = body.get("documents")
    return isinstance(documents, list) and any(
        isinstance(document, Mapping) and "image" in document for document in documents
    )


from_vllm = has_any("truncate_prompt_tokens", "use_activation", "activation", "softmax")

_RERANK = Rule(NATIVE, ((has_any("texts"), TEI), (has_any("truncation"), VOYAGE)))
_V1 = Rule(V1, ((from_voyage, V1_DATA), (from_jina, JINA), (from_vllm, VLLM_V1)))
_V1_RERANKING = Rule(V1, ((has_any("input"), MIXEDBREAD), *_V1.choices))
_V2 = Rule(V2, ((from_vllm, VLLM_V2),))

# Other servers' paths work with their clients' base URL. Where servers use the same path with
# different responses, some also have a base path of their own.
ROUTES: Mapping[str, Rule] = {
    "/rerank": _RERANK,
    "/reranking": _RERANK,
    "/rerank/batch": Rule(BATCH),
    "/v1/rerank": _V1,
    "/v1/reranking": _V1_RERANKING,
    "/v2/rerank": _V2,
    "/score": Rule(SCORE),
    "/v1/score": Rule(SCORE),
    "/v1/ranking": Rule(NIM),
    "/v1/retrieval/{model:path}/reranking": Rule(NIM),
    "/voyage/v1/rerank": Rule(VOYAGE),
    "/vllm/rerank": Rule(VLLM_V1),
    "/sglang/v1/rerank": Rule(SGLANG),
}


def default_for(path: str) -> Wire:
    """The dialect in which to report errors of an unparsed request, by its path."""
    if rule := ROUTES.get(path):
        return rule.otherwise
    if path.startswith("/v1/retrieval/"):
        return NIM
    return V1 if path.startswith(("/v1/", "/v2/")) else NATIVE
