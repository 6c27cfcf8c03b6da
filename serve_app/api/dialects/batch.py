"""`POST /rerank/batch`: several queries in one call, with their own or shared documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from serve_app.api.dialects.base import Limits, ManyDialect, Outcome, Query, dumps, json_type
from serve_app.api.dialects.documents import check_count
from serve_app.api.dialects.native import NATIVE, error_object, payload
from serve_app.errors import BadRequest, InvalidRequest, RerankError

_TOPS = ("top_k", "top_n")


class Batch(ManyDialect):
    """An entry of `queries` is a query, or an object whose fields override those of the body."""

    name = "batch"

    def parse_all(self, body: Mapping[str, Any], limits: Limits) -> Sequence[Query]:
        queries = body.get("queries")
        if queries is None or queries == []:
            raise BadRequest("invalid request: list of queries must not be empty", param="queries")
        if not isinstance(queries, list):
            raise InvalidRequest(
                f"queries must be a list of strings or objects, not {json_type(queries)}.",
                param="queries",
            )
        check_count(len(queries), limits, "queries")
        shared = {name: value for name, value in body.items() if name != "queries"}
        calls: list[Query] = []
        total = 0
        for entry in queries:
            call = _call(entry, shared, limits)
            total += 1 if isinstance(call, RerankError) else len(call.documents)
            # Checked in the loop, since shared documents count once per query.
            check_count(total, limits, "documents of all queries")
            calls.append(call)
        return calls

    def render_all(
        self, calls: Sequence[Query], outcomes: Sequence[Outcome], body: Mapping[str, Any]
    ) -> bytes:
        answers: list[dict[str, Any]] = []
        tokens = 0
        for i, (entry, call, outcome) in enumerate(
            zip(body["queries"], calls, outcomes, strict=True)
        ):
            answer: dict[str, Any] = {"index": i}
            if isinstance(entry, Mapping) and "id" in entry:
                answer["query_id"] = entry["id"]
            if isinstance(outcome, RerankError) or isinstance(call, RerankError):
                problem = outcome if isinstance(outcome, RerankError) else call
                assert isinstance(problem, RerankError)
                answer |= {"error": error_object(problem), "status": problem.status}
                if problem.retry_after_s is not None:
                    answer["retry_after_s"] = problem.retry_after_s
            else:
                tokens += outcome.tokens
                answer |= payload(outcome, call)
            answers.append(answer)
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return dumps({"object": "list", "answers": answers, "usage": usage})

    def error(self, error: RerankError, request_id: str) -> bytes:
        return NATIVE.error(error, request_id)

    def status(self, error: RerankError) -> int:
        return NATIVE.status(error)


def _call(entry: Any, shared: Mapping[str, Any], limits: Limits) -> Query:
    try:
        if isinstance(entry, str):
            return NATIVE.parse({**shared, "query": entry}, limits)
        if isinstance(entry, Mapping):
            # Two names for one field: if the entry has either, it overrides both in the body.
            hidden = _TOPS if any(name in entry for name in _TOPS) else ()
            kept = {name: value for name, value in shared.items() if name not in hidden}
            return NATIVE.parse({**kept, **entry}, limits)
        raise InvalidRequest(
            f"a query must be a string or an object, not {json_type(entry)}.", param="queries"
        )
    except RerankError as error:
        return error


BATCH = Batch()
