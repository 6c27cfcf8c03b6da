"""Bodies, results and limits that the tests of several dialects share."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import strategies as st

from serve_app.api.dialects import NATIVE, Dialect, Limits, ManyDialect
from serve_app.api.dialects.cohere import V1
from serve_app.types import RankedDocument, RelevantSpan, RerankRequest, RerankResult
from tests.serve_app.fakes import WordOverlap, answer, make_service

LIMITS = Limits(max_documents=5, max_query_chars=20)
both = pytest.mark.parametrize("dialect", [NATIVE, V1], ids=lambda d: d.name)
ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()), max_size=20)
MANY_LIMITS = Limits(max_documents=8)
CASCADE: list[dict[str, Any]] = [{"rerank": "light", "keep": 3}, {"rerank": "heavy"}]
DOCUMENTS = ["0.9 0.1", "0.8 0.7", "0.7 0.9", "0.1 1.0"]


def result_for(request: RerankRequest, **more: Any) -> RerankResult:
    ranked = tuple(
        RankedDocument(index=i, relevance_score=0.5, logit=0.0, document=None)
        for i in range(len(request.documents))
    )
    return RerankResult(id="r1", model="m", results=ranked[: request.top_n], **more)


def body(**more: Any) -> dict[str, Any]:
    return {"query": "q", "documents": ["a", "b", "c"], **more}


def ranked(request: RerankRequest, **more: Any) -> RerankResult:
    found = tuple(
        RankedDocument(i, 0.9, 2.5, None, (RelevantSpan(0, 1, 0.7),) if i == 0 else ())
        for i in range(len(request.documents))
    )
    return RerankResult("r1", "m", found[: request.top_n], tokens=7, **more)


def asked(dialect: Dialect, body: dict[str, Any], **more: Any) -> Any:
    request = dialect.parse(body, LIMITS)
    return json.loads(dialect.render(ranked(request, **more), request))


async def asked_many(dialect: ManyDialect, body: dict[str, Any]) -> Any:
    content, _ = await answer(make_service(WordOverlap()), dialect, body, MANY_LIMITS)
    return json.loads(content)


def pipeline_body(**more: Any) -> dict[str, Any]:
    return {"query": "bamboo", "documents": DOCUMENTS, "return_documents": False, **more}
