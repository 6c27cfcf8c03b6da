"""A provider's rerank endpoint as a model: cut to fit, sent side by side, put together again."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from models.concurrency import gather_or_cancel
from models.images import ImageDocument
from models.remote import answers, cutting
from models.remote.answers import BadAnswer
from models.remote.connection import Remote, RemoteModel
from models.remote.errors import RemoteRefused
from models.remote.forms import FORMS
from models.remote.types import Ask
from models.types import DEFAULTS, Document, Score, ScoreOptions


class EndpointScorer(RemoteModel):
    """Scores by one of the wire forms in `forms.FORMS`."""

    def __init__(self, remote: Remote) -> None:
        self._form = FORMS[remote.provider.form]
        super().__init__(remote, remote.info())

    async def score(
        self, query: str, documents: Sequence[Document], options: ScoreOptions = DEFAULTS
    ) -> list[Score]:
        """Scores in the documents' order. Raises a RemoteError: no document goes without one."""
        self._check(documents, options)
        provider, spec = self._remote.provider, self._remote.spec
        limit = options.max_tokens_per_doc or spec.max_tokens_per_doc
        own_limit = None if provider.doc_tokens_field else limit
        query = cutting.shorten(query, chars=provider.max_query_chars)
        sent = [
            cutting.shorten(d, chars=provider.max_document_chars, tokens=own_limit)
            if isinstance(d, str)
            else d
            for d in documents
        ]
        tokens = [cutting.estimate(d) for d in sent]
        parts = cutting.calls(
            cutting.estimate(query),
            tokens,
            max_documents=self._remote.max_documents,
            max_tokens=self._remote.max_tokens,
        )
        if len(parts) > spec.max_calls:
            raise RemoteRefused(
                f"{spec.name}: {len(documents)} documents need {len(parts)} calls, and at most "
                f"{spec.max_calls} are made for a request; send fewer"
            )
        deadline = asyncio.get_running_loop().time() + spec.timeout_s
        extra = {provider.doc_tokens_field: limit} if provider.doc_tokens_field and limit else {}

        async def one(part: range) -> list[Score]:
            ask = Ask(
                model=self._remote.model,
                query=query,
                documents=[sent[i] for i in part],
                query_image=options.query_image,
                instruction=options.instruction or spec.instruction,
                region=self._remote.region,
            )
            scores, cost = await self._call(ask, extra, deadline)
            weights = [cutting.estimate(query) + tokens[i] for i in part]
            cost = sum(weights) if cost is None else cost
            self._remote.transport.spend(cost)
            shared = cutting.shares(cost, weights)
            return [
                Score(score, share, truncated=sent[i] != documents[i])
                for i, score, share in zip(part, scores, shared, strict=True)
            ]

        found = await gather_or_cancel(one(part) for part in parts)
        return [score for part in found for score in part]

    async def _call(
        self, ask: Ask, extra: Mapping[str, Any], deadline: float
    ) -> tuple[list[float], int | None]:
        """The scores of one call's documents, and what it cost, of all its pages."""
        transport, form = self._remote.transport, self._form
        body = self._remote.completed({**form.body(ask), **extra})
        found: list[Any] = []
        cost: int | None = None
        try:
            while True:
                answer = await transport.post(self._remote.url, body, deadline=deadline)
                page = answers.entries(form, answer)
                found += page
                spent = answers.tokens_in(answer)
                cost = cost if spent is None else (cost or 0) + spent
                self._count_units(transport.counts, answer)
                again = answer.get(form.token) if form.token else None
                if not again or not page or len(found) > len(ask.documents):
                    break
                body = {**body, str(form.token): again}
            return answers.read(form, found, len(ask.documents), self._remote.scale), cost
        except BadAnswer as error:
            raise transport.bad_answer(str(error), answer) from None

    def _count_units(self, counts: Counter[str], answer: Any) -> None:
        if units := answers.units_in(answer):
            counts["billed_units"] += units

    def _check(self, documents: Sequence[Document], options: ScoreOptions) -> None:
        name, provider = self._remote.spec.name, self._remote.provider
        if not provider.takes_images and any(isinstance(d, ImageDocument) for d in documents):
            raise RemoteRefused(f"the model {name} reads text alone, no images")
        if options.long_document == "max_passage":
            raise RemoteRefused(
                f"the model {name} is scored by {provider.title}, which cuts long documents by "
                "itself; leave long_document out"
            )
