"""A judge that rates each document in a call of its own, concurrently."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from models.concurrency import gather_or_cancel
from models.llm import prompts, reading
from models.llm.chat import Chat, Completion
from models.remote import cutting
from models.remote.connection import Connection, RemoteModel
from models.remote.errors import RemoteRefused
from models.types import DEFAULTS, Document, Score, ScoreOptions

DOC_TOKENS = 4096
_ANSWER_TOKENS = 32
_REASON_TOKENS = 256
# An unreadable answer is requested once more.
_ATTEMPTS = 2


class PointwiseJudge(RemoteModel):
    """Scores in [0, 1]: a rating from 0 to 10 divided by 10, or the probability of yes.

    For a yes/no judge, the score is P(yes) / (P(yes) + P(no)) if the server returns
    log-probabilities, as in monoT5 (Nogueira et al., "Document Ranking with a Pretrained
    Sequence-to-Sequence Model", 2020), else 1 or 0.
    """

    def __init__(self, connection: Connection) -> None:
        self._chat = Chat(connection)
        self._rates = connection.spec.judge == "score"
        super().__init__(
            connection,
            connection.info(family="llm-pointwise", template=connection.spec.judge, explains=True),
        )

    async def score(
        self, query: str, documents: Sequence[Document], options: ScoreOptions = DEFAULTS
    ) -> list[Score]:
        """Scores in document order. Raises a RemoteError."""
        spec = self._connection.spec
        if len(documents) > spec.max_calls:
            raise RemoteRefused(
                f"{spec.name}: {len(documents)} documents need one call each, and the maximum per "
                f"request is {spec.max_calls}; send fewer documents"
            )
        deadline = asyncio.get_running_loop().time() + spec.timeout_s
        return await gather_or_cancel(
            self._judge(query, document, options, deadline) for document in documents
        )

    async def _judge(
        self, query: str, document: Document, options: ScoreOptions, deadline: float
    ) -> Score:
        text = document if isinstance(document, str) else document.text
        limit = options.max_tokens_per_doc or self._connection.spec.max_tokens_per_doc or DOC_TOKENS
        passage = cutting.shorten(text, tokens=limit)
        tokens = 0
        for _ in range(_ATTEMPTS):
            completion = await self._ask(query, passage, options, deadline)
            tokens += completion.tokens
            value = self._read(completion)
            if value is not None:
                explanation = reading.reason(completion.text) if options.explain else ""
                return Score(value, tokens, truncated=passage != text, explanation=explanation)
            self._connection.transport.counts["unreadable"] += 1
        raise self._connection.transport.unusable_answer("the judge's answer has no score", None)

    async def _ask(
        self, query: str, passage: str, options: ScoreOptions, deadline: float
    ) -> Completion:
        instruction = options.instruction or self._connection.spec.instruction
        prompt = prompts.rating if self._rates else prompts.yes_no
        answer: dict[str, object] = (
            {"score": {"type": "integer", "minimum": 0, "maximum": prompts.MAX_RATING}}
            if self._rates
            else {"answer": {"type": "string", "enum": ["yes", "no"]}}
        )
        reason = {"reason": {"type": "string"}} if options.explain else {}
        # Comparing yes with no needs the answer to start with one of them, not with JSON.
        logprobs = not self._rates and not options.explain
        return await self._chat.ask(
            prompt(query, passage, instruction, options.explain),
            max_tokens=_REASON_TOKENS if options.explain else _ANSWER_TOKENS,
            deadline=deadline,
            schema=None if logprobs else prompts.schema({**reason, **answer}),
            logprobs=logprobs,
        )

    def _read(self, completion: Completion) -> float | None:
        if self._rates:
            rating = reading.rating(completion.text)
            return None if rating is None else rating / prompts.MAX_RATING
        probability = reading.probability_of_yes(completion.probabilities)
        return reading.yes_or_no(completion.text) if probability is None else probability
