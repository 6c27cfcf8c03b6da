"""jina-reranker-v3: query and all documents in one prompt, "last but not late" interaction.

Wang, Li and Xiao, "jina-reranker-v3" (arXiv 2509.25085), and `rerank` in the checkpoint's
modeling.py: a marker follows each document, and another one the query. The hidden states at the
markers go through a projector, and the score is their cosine. Many documents are split into blocks,
whose query vectors are averaged with the weights (1 + the block's best cosine) / 2.

There are three differences. The prompt has a place for an instruction, which `rerank` does not
offer. A block whose prompt is longer than `max_length` is halved, while `rerank` runs it beyond the
model's positions. Markers in texts are removed before truncation, so that they take up no length.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import torch

from models.checkpoint import Checkpoint
from models.engines import engine_for
from models.families.base import Family
from models.lengths import max_length_of
from models.types import DEFAULTS, Encoded, ModelLoadError, Score, ScoreOptions, TokenRow

DOCUMENT_MARKER, QUERY_MARKER = "<|embed_token|>", "<|rerank_token|>"
MAX_QUERY_TOKENS, MAX_DOCUMENT_TOKENS, BLOCK_DOCUMENTS = 512, 2048, 125
# A text cut inside a word or character may have more tokens when tokenised again.
SEAM_TOKENS = 8
SYSTEM = (
    "You are a search relevance expert who can determine a ranking of the passages based on how "
    "relevant they are to the query. If the query is a question, how relevant a passage is depends "
    "on how well it answers the question. If not, try to analyze the intent of the query and "
    "assess how well each passage satisfies the intent. If an instruction is provided, you should "
    "follow the instruction when determining the ranking."
)


def matches(checkpoint: Checkpoint) -> bool:
    return "JinaForRanking" in checkpoint.architectures


def prompt(query: str, documents: Sequence[str], instruction: str | None) -> str:
    """The prompt of one block."""
    task = f"<instruct>\n{instruction}\n</instruct>\n" if instruction else ""
    passages = "\n".join(
        f'<passage id="{i}">\n{document}{DOCUMENT_MARKER}\n</passage>'
        for i, document in enumerate(documents)
    )
    return (
        f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n"
        f"I will provide you with {len(documents)} passages, each indicated by a numerical "
        f"identifier. Rank the passages based on their relevance to query: {query}\n"
        f"{task}{passages}\n<query>\n{query}{QUERY_MARKER}\n</query>"
        "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    )


class Listwise(Family):
    """A document's score depends on the other documents of its request and on their order."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        from transformers import Qwen3Model

        vocabulary = checkpoint.tokenizer.get_vocab()
        for marker in (DOCUMENT_MARKER, QUERY_MARKER):
            if marker not in vocabulary:
                raise ModelLoadError(
                    f"{checkpoint.spec.source!r}: its tokenizer has no token {marker!r}"
                )
        self._markers = vocabulary[DOCUMENT_MARKER], vocabulary[QUERY_MARKER]
        self._projector = _projector(checkpoint)
        # Nothing is generated, and keys and values take most of a long prompt's memory.
        checkpoint.config.use_cache = False
        super().__init__(
            checkpoint,
            engine_for(
                checkpoint, partial(checkpoint.module, Qwen3Model), output="last_hidden_state"
            ),
            family="listwise",
            max_length=max_length_of(checkpoint, int(checkpoint.config.max_position_embeddings)),
            activation="clamp",
            template="jina-v3",
            takes_instruction=True,
            instruction=checkpoint.spec.instruction,
            listwise=True,
        )

    def encode(
        self, query: str, documents: Sequence[str], options: ScoreOptions = DEFAULTS
    ) -> Encoded:
        """One row per block of documents, read at the positions of the markers."""
        instruction = options.instruction or self.info.instruction or ""
        (instruction,), _, _ = self._cut([instruction], self.info.max_length // 4)
        room = self.info.max_length - len(self._ids(prompt("", [""], instruction))) - SEAM_TOKENS
        # The prompt contains the query twice; if there is little room, half is for a document.
        limit = max(1, min(MAX_QUERY_TOKENS, room // 4))
        (asked, *_), (query_length, *_), (query_cut, *_) = self._cut([query], limit)
        limit = max(1, min(MAX_DOCUMENT_TOKENS, room - 2 * query_length))
        texts, lengths, cut = self._cut(documents, limit)
        rows: list[TokenRow] = []
        tokens: list[int] = []
        for whole in self._blocks(lengths, query_length):
            for block, ids in self._fitting(whole, asked, texts, instruction):
                places = [i for i, token in enumerate(ids) if token in self._markers]
                rows.append(TokenRow(ids, read=places))
                tokens += _shares(len(ids), [lengths[i] for i in block])
        return Encoded(rows, tokens, [query_cut or c for c in cut])

    def _cut(self, texts: Sequence[str], limit: int) -> tuple[list[str], list[int], list[bool]]:
        """Texts without markers, cut to `limit` tokens; their lengths; which were truncated."""
        short, lengths, truncated = [], [], []
        cleaned = (_without_markers(self._clean(text)) for text in texts)
        heads = [self._text.head(text, limit) for text in cleaned]
        found = self._text.ids([head for head, _ in heads], limit)
        for (head, unread), (ids, over) in zip(heads, found, strict=True):
            cut = unread or over
            short.append(self._tokenizer.decode(ids) if cut else head)
            lengths.append(len(ids))
            truncated.append(cut)
        return short, lengths, truncated

    def _blocks(self, lengths: Sequence[int], query_length: int) -> Iterator[list[int]]:
        """Indices of documents by block. Each prompt contains the query twice."""
        capacity = room = self.info.max_length - 2 * query_length
        block: list[int] = []
        for i, length in enumerate(lengths):
            block.append(i)
            room -= length
            if len(block) == BLOCK_DOCUMENTS or room <= MAX_DOCUMENT_TOKENS:
                yield block
                block, room = [], capacity
        if block:
            yield block

    def _fitting(
        self, block: Sequence[int], query: str, texts: Sequence[str], instruction: str
    ) -> Iterator[tuple[Sequence[int], list[int]]]:
        """The block and its prompt's ids, or its halves and theirs if the prompt is too long."""
        ids = self._ids(prompt(query, [texts[i] for i in block], instruction))
        if len(ids) <= self.info.max_length or len(block) == 1:
            yield block, ids
            return
        half = len(block) // 2
        for part in (block[:half], block[half:]):
            yield from self._fitting(part, query, texts, instruction)

    def forward(self, batch: Sequence[Encoded]) -> list[list[Score]]:
        rows = [row for encoded in batch for row in encoded.rows]
        outputs = iter(self._engine.run(rows))
        return [
            self._scores(self._compare([self._project(next(outputs)) for _ in e.rows]), e)
            for e in batch
        ]

    def _project(self, hidden: torch.Tensor) -> torch.Tensor:
        first, second = self._projector
        return torch.nn.functional.linear(torch.relu(hidden @ first.T), second)

    @staticmethod
    def _compare(blocks: Sequence[torch.Tensor]) -> list[float]:
        """Scores of all documents. Each block is [documents + 1, size], with the query last."""
        if not blocks:
            return []
        cosine = torch.nn.functional.cosine_similarity
        queries = torch.stack([block[-1] for block in blocks])
        if len(blocks) > 1:
            best = torch.stack([cosine(block[:-1], block[-1:]).max() for block in blocks])
            weights = (1 + best) / 2
            queries = (weights[:, None] * queries).sum(0, keepdim=True) / weights.sum()
        documents = torch.cat([block[:-1] for block in blocks])
        values: list[float] = cosine(documents, queries).tolist()
        return values


def _projector(checkpoint: Checkpoint) -> tuple[torch.Tensor, torch.Tensor]:
    """The projector's weights in float32: [inner, hidden] and [size, inner]."""
    weights = checkpoint.weights()
    names = ("projector.0.weight", "projector.2.weight")
    missing = [name for name in names if name not in weights]
    if missing:
        raise ModelLoadError(f"{checkpoint.spec.source!r} lacks weights for {missing[0]}")
    first, second = (weights[name].float() for name in names)
    if first.shape[1:] != (checkpoint.config.hidden_size,) or second.shape[1:] != first.shape[:1]:
        raise ModelLoadError(
            f"{checkpoint.spec.source!r}: its projector, {list(first.shape)} and "
            f"{list(second.shape)}, does not fit the hidden size {checkpoint.config.hidden_size}"
        )
    return first, second


def _without_markers(text: str) -> str:
    """Remove markers, which would assign later scores to the wrong documents."""
    for marker in (DOCUMENT_MARKER, QUERY_MARKER):
        text = text.replace(marker, "")
    # Removal can form new markers. They are split, as removing until none is left is quadratic.
    for marker in (DOCUMENT_MARKER, QUERY_MARKER):
        text = text.replace(marker, f"{marker[0]} {marker[1:]}")
    return text


def _shares(total: int, lengths: Sequence[int]) -> list[int]:
    """A block's tokens per document: its own and an equal share of the prompt's."""
    rest, more = divmod(total - sum(lengths), len(lengths))
    return [length + rest + (i < more) for i, length in enumerate(lengths)]
