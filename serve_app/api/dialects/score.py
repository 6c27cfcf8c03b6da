"""`POST /score`, `/v1/score`: vLLM's format for scoring pairs, unsorted."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from serve_app.api.dialects import documents, fields, options
from serve_app.api.dialects.base import Limits, ManyDialect, Outcome, Query, dumps
from serve_app.api.dialects.openai_errors import openai_error
from serve_app.errors import BadRequest, InvalidRequest, RerankError
from serve_app.types import RerankRequest

# vLLM's names for the two sides, newest first.
SIDES = (
    ("queries", "documents"),
    ("queries", "items"),
    ("data_1", "data_2"),
    ("text_1", "text_2"),
)


class PairScores(ManyDialect):
    """Scores one text with each of several, or two lists of equal length pair by pair."""

    name = "score"

    def parse_all(self, body: Mapping[str, Any], limits: Limits) -> Sequence[Query]:
        left, right = sides(body)
        queries = _listed(body, left)
        texts, _ = documents.documents({right: _listed(body, right)}, limits, right)
        documents.check_count(len(queries), limits, left)
        if len(queries) not in (1, len(texts)):
            raise InvalidRequest(
                f"{left} has {len(queries)} entries, but {right} has {len(texts)}; send one entry,"
                f" or as many as in {right}.",
                param=left,
            )
        checked = [fields.query_text(query, limits, left) for query in queries]
        shared = RerankRequest(
            query=checked[0],
            documents=texts,
            model=fields.model(body),
            options=options.options(body),
            priority=options.priority(body),
            raw_scores=options.raw_scores(body),
            sort=False,
        )
        if len(checked) == 1:
            return [shared]
        return [
            replace(shared, query=query, documents=tuple(texts[i] for i in places))
            for query, places in _places(checked).items()
        ]

    def render_all(
        self, calls: Sequence[Query], outcomes: Sequence[Outcome], body: Mapping[str, Any]
    ) -> bytes:
        queries = _listed(body, sides(body)[0])
        alone = len(calls) == 1  # one query for all documents
        scores: dict[int, float] = {}
        tokens, model = 0, ""
        for call, outcome, places in zip(calls, outcomes, _places(queries).values(), strict=True):
            if isinstance(outcome, RerankError):
                raise outcome
            raw = isinstance(call, RerankRequest) and call.raw_scores
            if isinstance(call, RerankRequest) and len(outcome.results) < len(call.documents):
                raise InvalidRequest(
                    f"the pipeline {outcome.model!r} does not keep all documents, but every pair "
                    "needs a score; use a model",
                    param="model",
                )
            for r in outcome.results:
                place = r.index if alone else places[r.index]
                scores[place] = r.logit if raw else r.relevance_score
            tokens += outcome.tokens
            model = outcome.model
        return dumps(
            {
                "id": f"score-{uuid.uuid4().hex}",
                "object": "list",
                "created": int(time.time()),
                "model": model,
                "data": [
                    {"index": i, "object": "score", "score": scores[i]} for i in range(len(scores))
                ],
                "usage": {"prompt_tokens": tokens, "total_tokens": tokens, "completion_tokens": 0},
            }
        )

    def error(self, error: RerankError, request_id: str) -> bytes:
        # Older versions of vLLM have the fields at the top level instead of under `error`.
        fault = openai_error(error, self.status(error))
        return dumps({"object": "error", "error": fault, **fault, "request_id": request_id})

    def status(self, error: RerankError) -> int:
        return 400 if isinstance(error, InvalidRequest) else error.status


def sides(body: Mapping[str, Any]) -> tuple[str, str]:
    """Return the names of the two sides in this body."""
    for left, right in SIDES:
        if body.get(left) is not None and body.get(right) is not None:
            return left, right
    named = ", or ".join(f"{left} and {right}" for left, right in SIDES)
    raise BadRequest(f"invalid request: send {named}", param="text_1")


def _places(queries: Sequence[str]) -> dict[str, list[int]]:
    """Return the positions of each query, since clients repeat it for each of its documents."""
    places: dict[str, list[int]] = {}
    for i, query in enumerate(queries):
        places.setdefault(query, []).append(i)
    return places


def _listed(body: Mapping[str, Any], name: str) -> list[Any]:
    value = body[name]
    if value == []:
        raise BadRequest(f"invalid request: {name} must not be empty", param=name)
    return value if isinstance(value, list) else [value]


SCORE = PairScores()
