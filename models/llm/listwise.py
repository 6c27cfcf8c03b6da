"""A judge that orders documents, one window at a time.

The windows are those of RankGPT (Sun et al., "Is ChatGPT Good at Search?", EMNLP 2023): they slide
from the end of the list to its start and overlap, so the best documents move up with them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

from models.llm import prompts, reading
from models.llm.chat import Chat
from models.remote import cutting
from models.remote.connection import Connection, RemoteModel
from models.remote.errors import RemoteRefused
from models.types import DEFAULTS, Document, Score, ScoreOptions

DOC_TOKENS = 512
_TOKENS_PER_NUMBER = 8
_EXTRA_TOKENS = 64
# An unreadable answer is requested once more.
_ATTEMPTS = 2


def windows(count: int, size: int, step: int) -> Iterator[range]:
    """The windows over `count` documents, from last to first."""
    end = count
    while True:
        start = max(0, end - size)
        yield range(start, end)
        if start == 0:
            return
        end -= step


class ListwiseJudge(RemoteModel):
    """Scores documents by rank: 1 for the first of n documents, 1/n for the last."""

    def __init__(self, connection: Connection) -> None:
        spec = connection.spec
        self._chat = Chat(connection)
        super().__init__(
            connection,
            connection.info(
                family="llm-listwise",
                template="listwise",
                listwise=True,
                detail=f"window={spec.window} step={spec.step}",
            ),
        )

    async def score(
        self, query: str, documents: Sequence[Document], options: ScoreOptions = DEFAULTS
    ) -> list[Score]:
        """Scores in document order. Raises a RemoteError."""
        spec, count = self._connection.spec, len(documents)
        parts = list(windows(count, spec.window, spec.step))
        if len(parts) > spec.max_calls:
            raise RemoteRefused(
                f"{spec.name}: {count} documents need {len(parts)} calls, and the maximum per "
                f"request is {spec.max_calls}; send fewer documents"
            )
        limit = options.max_tokens_per_doc or spec.max_tokens_per_doc or DOC_TOKENS
        texts = [d if isinstance(d, str) else d.text for d in documents]
        passages = [cutting.shorten(text, tokens=limit) for text in texts]
        instruction = options.instruction or spec.instruction
        deadline = asyncio.get_running_loop().time() + spec.timeout_s
        order, tokens = list(range(count)), 0
        for part in parts if count > 1 else ():
            shown = [order[i] for i in part]
            prompt = prompts.listwise(query, [passages[i] for i in shown], instruction)
            ranked, cost = await self._rank(prompt, len(shown), deadline)
            order[part.start : part.stop] = [shown[i] for i in ranked]
            tokens += cost
        shared = cutting.shares(tokens, [cutting.estimate(passage) for passage in passages])
        rank = {document: i for i, document in enumerate(order)}
        return [
            Score((count - rank[i]) / count, shared[i], truncated=passages[i] != texts[i])
            for i in range(count)
        ]

    async def _rank(
        self, prompt: list[prompts.Message], count: int, deadline: float
    ) -> tuple[list[int], int]:
        """The order of the window's documents, and the tokens that it took."""
        items = {"type": "integer", "minimum": 1, "maximum": count}
        schema = prompts.schema({"ranking": {"type": "array", "items": items}})
        counts, tokens = self._connection.transport.counts, 0
        for _ in range(_ATTEMPTS):
            completion = await self._chat.ask(
                prompt,
                max_tokens=_EXTRA_TOKENS + _TOKENS_PER_NUMBER * count,
                deadline=deadline,
                schema=schema,
            )
            tokens += completion.tokens
            order, repaired = reading.repair(reading.numbers(completion.text), count)
            if repaired["missing"] == count:
                counts["unreadable"] += 1
                continue
            if repaired:
                counts["rankings_repaired"] += 1
                counts.update({f"ranking_{what}": n for what, n in repaired.items()})
            return order, tokens
        raise self._connection.transport.unusable_answer(
            "the judge's answer ranks no document", None
        )
