"""A provider's rerank endpoint as a model: split requests, send them concurrently, merge scores."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from models.concurrency import gather_or_cancel
from models.images import ImageDocument
from models.remote import answers, cutting
from models.remote.answers import BadAnswer
from models.remote.connection import Connection, RemoteModel
from models.remote.errors import RemoteRefused
from models.remote.forms import FORMS
from models.remote.types import ProviderCall
from models.types import DEFAULTS, Document, Score, ScoreOptions


class EndpointScorer(RemoteModel):
    """Scores through one of the wire forms in `forms.FORMS`."""

    def __init__(self, connection: Connection) -> None:
        self._form = FORMS[connection.provider.form]
        super().__init__(connection, connection.info())

    async def score(
        self, query: str, documents: Sequence[Document], options: ScoreOptions = DEFAULTS
    ) -> list[Score]:
        """Scores in document order. Raises a RemoteError unless every document gets a score."""
        self._check(documents, options)
        provider, spec = self._connection.provider, self._connection.spec
        limit = options.max_tokens_per_doc or spec.max_tokens_per_doc
        # The provider truncates by tokens itself if it has a field for that.
        our_limit = None if provider.doc_tokens_field else limit
        query = cutting.shorten(query, chars=provider.max_query_chars)
        sent = [
            cutting.shorten(d, chars=provider.max_document_chars, tokens=our_limit)
            if isinstance(d, str)
            else d
            for d in documents
        ]
        tokens = [cutting.estimate(d) for d in sent]
        parts = cutting.calls(
            cutting.estimate(query),
            tokens,
            max_documents=self._connection.max_documents,
            max_tokens=self._connection.max_tokens,
        )
        if len(parts) > spec.max_calls:
            raise RemoteRefused(
                f"{spec.name}: {len(documents)} documents need {len(parts)} calls, and the maximum "
                f"per request is {spec.max_calls}; send fewer documents"
            )
        deadline = asyncio.get_running_loop().time() + spec.timeout_s
        extra = {provider.doc_tokens_field: limit} if provider.doc_tokens_field and limit else {}

        async def score_part(part: range) -> list[Score]:
            call = ProviderCall(
                model=self._connection.model,
                query=query,
                documents=[sent[i] for i in part],
                query_image=options.query_image,
                instruction=options.instruction or spec.instruction,
                region=self._connection.region,
            )
            scores, cost = await self._send(call, extra, deadline)
            weights = [cutting.estimate(query) + tokens[i] for i in part]
            cost = sum(weights) if cost is None else cost
            self._connection.transport.spend(cost)
            shared = cutting.shares(cost, weights)
            return [
                Score(score, share, truncated=sent[i] != documents[i])
                for i, score, share in zip(part, scores, shared, strict=True)
            ]

        found = await gather_or_cancel(score_part(part) for part in parts)
        return [score for part in found for score in part]

    async def _send(
        self, call: ProviderCall, extra: Mapping[str, Any], deadline: float
    ) -> tuple[list[float], int | None]:
        """The scores of a call's documents and its total tokens, over all pages of the answer."""
        transport, form = self._connection.transport, self._form
        body = self._connection.with_parameters({**form.body(call), **extra})
        found: list[Any] = []
        cost: int | None = None
        try:
            while True:
                answer = await transport.post(self._connection.url, body, deadline=deadline)
                page = answers.entries(form, answer)
                found += page
                spent = answers.tokens_in(answer)
                cost = cost if spent is None else (cost or 0) + spent
                self._count_units(transport.counts, answer)
                page_token = answer.get(form.page_token) if form.page_token else None
                if not page_token or not page or len(found) > len(call.documents):
                    break
                body = {**body, str(form.page_token): page_token}
            return answers.read(form, found, len(call.documents), self._connection.scale), cost
        except BadAnswer as error:
            raise transport.unusable_answer(str(error), answer) from None

    def _count_units(self, counts: Counter[str], answer: Any) -> None:
        if units := answers.units_in(answer):
            counts["billed_units"] += units

    def _check(self, documents: Sequence[Document], options: ScoreOptions) -> None:
        name, provider = self._connection.spec.name, self._connection.provider
        if not provider.takes_images and any(isinstance(d, ImageDocument) for d in documents):
            raise RemoteRefused(f"model {name} accepts only text, not images")
        if options.long_document == "max_passage":
            raise RemoteRefused(
                f"model {name} is scored by {provider.title}, which truncates long documents "
                "itself; remove long_document from the request"
            )
