"""What an engine is: token rows in, in micro-batches of like length; logits or states out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from models.batching import plan
from models.types import TokenRow

Ids = npt.NDArray[np.int64]
Forward = Callable[[Sequence[TokenRow]], list[torch.Tensor]]


@dataclass(frozen=True, slots=True)
class Padded:
    """A micro-batch as arrays [rows, longest]; `types` only where the rows have type ids."""

    ids: Ids
    mask: Ids
    types: Ids | None


def pad(rows: Sequence[TokenRow], pad_token_id: int) -> Padded:
    """Rows filled up on their right."""
    shape = (len(rows), max(len(row) for row in rows))
    ids = np.full(shape, pad_token_id, dtype=np.int64)
    mask = np.zeros(shape, dtype=np.int64)
    types = np.zeros(shape, dtype=np.int64) if rows[0].type_ids is not None else None
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row.input_ids
        mask[i, : len(row) if row.attended is None else row.attended] = 1
        if types is not None and row.type_ids is not None:
            types[i, : len(row)] = row.type_ids
    return Padded(ids, mask, types)


class Engine(ABC):
    """Runs rows through a module; `output` names what is read of its answer.

    `logits`: one vector of labels for each row. `last_hidden_state`: one vector for each token,
    or for each position in `row.read`. `last_token`: the hidden state at each row's last token.
    """

    name: str
    device: str
    dtype: str
    token_budget: int
    pad_token_id: int
    max_rows: int | None

    def run(self, rows: Sequence[TokenRow], prefix: Sequence[int] = ()) -> list[torch.Tensor]:
        """For each row, in order: logits [labels], or hidden states [tokens, hidden] or [hidden].

        All in float32. `prefix`: token ids that stand before every row of a causal model; its
        keys and values are computed once. Raises ValueError where the engine takes none.
        """
        outputs: list[torch.Tensor] = [torch.empty(0)] * len(rows)
        forward = self._prepare(prefix)
        # A row costs its attention to the prefix too.
        lengths = [len(prefix) + len(row) for row in rows]
        for batch in plan(lengths, self.token_budget, self.max_rows):
            for index, output in zip(batch, forward([rows[i] for i in batch]), strict=True):
                outputs[index] = output
        return outputs

    def run_once(self, rows: Sequence[TokenRow]) -> list[torch.Tensor]:
        """As `run`; equal rows are run once (chunks of one request share their query)."""
        unique = {(tuple(row.input_ids), row.attended): row for row in rows}
        place = {key: i for i, key in enumerate(unique)}
        outputs = self.run(list(unique.values()))
        return [outputs[place[tuple(row.input_ids), row.attended]] for row in rows]

    @abstractmethod
    def _prepare(self, prefix: Sequence[int]) -> Forward:
        """A function that runs one micro-batch after the prefix."""
