"""`POST /rerank/batch`: several queries in one call, with their own or shared documents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from typing import Any

from models.types import Document
from serve_app.api.dialects import fields, native, options
from serve_app.api.dialects.base import Limits, ManyDialect, Outcome, Query, dumps, json_type
from serve_app.api.dialects.documents import (
    Parsed,
    check_count,
    check_depth,
    listed,
    rank_fields,
)
from serve_app.api.dialects.native import NATIVE, error_object, payload
from serve_app.errors import BadRequest, InvalidRequest, RerankError
from serve_app.service.relevant_spans import MAX_SENTENCES, sentences
from serve_app.types import RerankRequest

_TOPS = ("top_k", "top_n")
# All queries and answers together may repeat fields of the body up to this many times the maximum
# size of a body.
REPEATED_BODIES = 4
# A character that is scored again, but not returned, counts less; a relevant span has about 60.
SCORED_WEIGHT = 0.2
SPAN_CHARS = 60
# Reading a shared document for another set of rank_fields counts as much as this many characters.
DOCUMENT_WORK = 100


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
        shared = SharedFields(body, limits)
        calls: list[Query] = []
        total = repeated = 0
        for entry in queries:
            call = shared.parse(entry)
            if isinstance(call, RerankError):
                total += 1
            else:
                total += len(call.documents)
                repeated += shared.repeated_chars(call)
            # Checked in the loop, since shared documents count once per query.
            check_count(total, limits, "documents of all queries")
            check_repeated(repeated, limits)
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
            if isinstance(entry, Mapping) and "id" in entry and _is_shallow(entry["id"]):
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


def check_repeated(chars: int, limits: Limits) -> None:
    most = REPEATED_BODIES * limits.max_body_bytes
    if chars > most:
        raise InvalidRequest(
            f"the queries and answers would repeat more than {most} characters of the shared"
            " fields; set return_documents to false, lower top_k or send fewer queries.",
            param="queries",
        )


class SharedFields:
    """The fields of a batch's body that apply to all queries, and their documents, parsed once."""

    def __init__(self, body: Mapping[str, Any], limits: Limits) -> None:
        self._limits = limits
        self._fields = {name: value for name, value in body.items() if name != "queries"}
        self._fields_without_tops = {n: v for n, v in self._fields.items() if n not in _TOPS}
        # By rank_fields, since a query may have its own.
        self._documents: dict[tuple[str, ...] | None, Parsed | RerankError] = {}
        self._sizes: dict[int, _Sizes] = {}
        self._sentence_counts: dict[int, int] = {}
        self._work = 0

    def parse(self, entry: Any) -> Query:
        """Return the request of an entry of `queries`, or the error in it or in the body."""
        try:
            if isinstance(entry, str):
                return self._with_query(entry)
            if isinstance(entry, Mapping):
                check_depth("id", entry.get("id"))
                # Two names for one field: if the entry has either, it overrides both in the body.
                hides = any(name in entry for name in _TOPS)
                below = self._fields_without_tops if hides else self._fields
                return native.parse(_Overlay(entry, below), self._limits, self._parse_documents)
            raise InvalidRequest(
                f"a query must be a string or an object, not {json_type(entry)}.", param="queries"
            )
        except RerankError as error:
            return error

    def repeated_chars(self, call: RerankRequest) -> int:
        """The maximum number of characters of the body that a query and its answer repeat."""
        image = len(call.options.query_image or "")
        sizes = self._sizes.get(id(call.documents))
        if sizes is None:
            return image  # its own documents are in the body once
        count = len(call.documents) if call.top_n is None else call.top_n
        texts = min(sizes.texts, count * sizes.longest_text) if call.return_documents else 0
        spans = self._sentences(call.documents) * SPAN_CHARS if call.relevant_spans else 0
        scored = int(sizes.texts * SCORED_WEIGHT)
        return image + scored + texts + min(sizes.fields, count * sizes.longest_fields) + spans

    def _sentences(self, texts: Sequence[Document]) -> int:
        if id(texts) not in self._sentence_counts:
            found = (span for text in texts if isinstance(text, str) for span in sentences(text))
            self._sentence_counts[id(texts)] = sum(1 for _ in islice(found, MAX_SENTENCES))
        return self._sentence_counts[id(texts)]

    def _with_query(self, text: str) -> RerankRequest:
        query = fields.query(_Overlay({"query": text}, self._fields), self._limits)
        if isinstance(self._template, RerankError):
            raise self._template.with_traceback(None)
        return replace(self._template, query=query)

    @cached_property
    def _template(self) -> Query:
        """The request of a query that overrides nothing."""
        return self.parse({"query": "-"})

    def _parse_documents(self, body: Mapping[str, Any], limits: Limits) -> Parsed:
        value = listed(body, limits, "documents")
        if value is not self._fields.get("documents"):
            return options.ranked_documents(body, limits)
        names = rank_fields(body)
        if names not in self._documents:
            self._documents[names] = self._parse_shared(body, len(value))
        found = self._documents[names]
        if isinstance(found, RerankError):
            # Without the traceback, which would grow with every query.
            raise found.with_traceback(None)
        return found

    def _parse_shared(self, body: Mapping[str, Any], count: int) -> Parsed | RerankError:
        self._work += count * DOCUMENT_WORK
        try:
            if self._documents and self._work > self._limits.max_body_bytes:
                raise InvalidRequest(
                    "too many queries have rank_fields of their own for the shared documents; "
                    "send fewer per batch.",
                    param="rank_fields",
                )
            texts, originals = options.ranked_documents(body, self._limits)
        except RerankError as error:
            return error
        sizes = self._sizes[id(texts)] = _Sizes.of(texts, originals)
        self._work += sizes.texts
        return texts, originals


def _is_shallow(value: Any) -> bool:
    """Whether the value can be written again."""
    try:
        check_depth("id", value)
    except InvalidRequest:
        return False
    return True


@dataclass(frozen=True, slots=True)
class _Sizes:
    """Characters of documents as returned: of all and of the longest, texts and other fields."""

    texts: int
    longest_text: int
    fields: int
    longest_fields: int

    @classmethod
    def of(cls, texts: Sequence[Document], originals: Sequence[Any] | None) -> _Sizes:
        chars = [len(d) if isinstance(d, str) else len(d.data_uri) + len(d.text) for d in texts]
        others = [
            len(dumps([sent[name] for name in native.RETURNED if name in sent]))
            for sent in originals or ()
            if isinstance(sent, Mapping)
        ]
        return cls(sum(chars), max(chars), sum(others), max(others, default=0))


class _Overlay(Mapping[str, Any]):
    """The fields of a query over those of the body, which may be thousands: they are not copied."""

    __slots__ = ("_above", "_below")

    def __init__(self, above: Mapping[str, Any], below: Mapping[str, Any]) -> None:
        self._above, self._below = above, below

    def __getitem__(self, name: str) -> Any:
        return self._above[name] if name in self._above else self._below[name]

    def get(self, name: str, default: Any = None) -> Any:
        return self._above[name] if name in self._above else self._below.get(name, default)

    def __iter__(self) -> Iterator[str]:
        return iter({**self._below, **self._above})

    def __len__(self) -> int:
        return len(self._below.keys() | self._above.keys())


BATCH = Batch()
