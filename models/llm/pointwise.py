"""A judge that is shown one document at a time, many at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from models.concurrency import gather_or_cancel
from models.llm import prompts, reading
from models.llm.chat import Chat, Completion
from models.remote import cutting
from models.remote.connection import Remote, RemoteModel
from models.remote.errors import RemoteRefused
from models.types import DEFAULTS, Document, Score, ScoreOptions

DOC_TOKENS = 4096
_ANSWER_TOKENS = 32
_REASON_TOKENS = 256
# An answer that can't be read is asked for once more.
_ASKS = 2


class Pointwise(RemoteModel):
    """Scores in [0, 1]: a mark from 0 to 10 by ten, or the probability of yes.

    By yes or no, the score is P(yes) / (P(yes) + P(no)) where the server offers
    log-probabilities, as monoT5 has it (Nogueira et al., "Document Ranking with a Pretrained
    Sequence-to-Sequence Model", 2020), else 1 or 0.
    """

    def __init__(self, remote: Remote) -> None:
        self._chat = Chat(remote)
        self._by_mark = remote.spec.judge == "score"
        super().__init__(
            remote, remote.info(family="llm-pointwise", template=remote.spec.judge, explains=True)
        )

    async def score(
        self, query: str, documents: Sequence[Document], options: ScoreOptions = DEFAULTS
    ) -> list[Score]:
        """Scores in the documents' order. Raises a RemoteError."""
        spec = self._remote.spec
        if len(documents) > spec.max_calls:
            raise RemoteRefused(
                f"{spec.name}: {len(documents)} documents need as many calls, and at most "
                f"{spec.max_calls} are made for a request; send fewer"
            )
        deadline = asyncio.get_running_loop().time() + spec.timeout_s
        return await gather_or_cancel(
            self._judge(query, document, options, deadline) for document in documents
        )

    async def _judge(
        self, query: str, document: Document, options: ScoreOptions, deadline: float
    ) -> Score:
        text = document if isinstance(document, str) else document.text
        limit = options.max_tokens_per_doc or self._remote.spec.max_tokens_per_doc or DOC_TOKENS
        passage = cutting.shorten(text, tokens=limit)
        tokens = 0
        for _ in range(_ASKS):
            completion = await self._ask(query, passage, options, deadline)
            tokens += completion.tokens
            value = self._read(completion)
            if value is not None:
                why = reading.reason(completion.text) if options.explain else ""
                return Score(value, tokens, truncated=passage != text, explanation=why)
            self._remote.transport.counts["unreadable"] += 1
        raise self._remote.transport.bad_answer("the judge's answer holds no score", None)

    async def _ask(
        self, query: str, passage: str, options: ScoreOptions, deadline: float
    ) -> Completion:
        instruction = options.instruction or self._remote.spec.instruction
        prompt = prompts.score if self._by_mark else prompts.yes_no
        answer: dict[str, object] = (
            {"score": {"type": "integer", "minimum": 0, "maximum": prompts.HIGHEST}}
            if self._by_mark
            else {"answer": {"type": "string", "enum": ["yes", "no"]}}
        )
        reason = {"reason": {"type": "string"}} if options.explain else {}
        # The words of yes and no are compared where they are the answer's first.
        chances = not self._by_mark and not options.explain
        return await self._chat.ask(
            prompt(query, passage, instruction, options.explain),
            max_tokens=_REASON_TOKENS if options.explain else _ANSWER_TOKENS,
            deadline=deadline,
            schema=None if chances else prompts.schema({**reason, **answer}),
            logprobs=chances,
        )

    def _read(self, completion: Completion) -> float | None:
        if self._by_mark:
            mark = reading.score(completion.text)
            return None if mark is None else mark / prompts.HIGHEST
        chance = reading.chance_of_yes(completion.chances)
        return reading.yes(completion.text) if chance is None else chance
