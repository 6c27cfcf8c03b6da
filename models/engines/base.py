"""What an engine is: token rows in, in micro-batches of like length; logits or states out."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from time import perf_counter
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from models.batching import plan
from models.checkpoint import Checkpoint
from models.engine_stats import EngineStats
from models.types import TokenRow

Ids = npt.NDArray[np.int64]
# What an engine reads of a module's answer; see Engine.
Output = Literal["logits", "last_hidden_state", "last_token"]
# Times that a run may meet the end of the memory.
MAX_HALVINGS = 5
# Budgets that are tried, and the row that they are tried with.
BUDGETS = {
    "cpu": (512, 1024, 2048, 4096),
    "mps": (2048, 4096, 8192, 16384),
    "cuda": (8192, 16384, 32768, 65536, 131072),
    # MLX's name of its own.
    "gpu": (2048, 4096, 8192, 16384, 32768),
}
# As torch says it, and as MLX does.
OUT_OF_MEMORY = (
    "out of memory",
    "Insufficient Memory",
    "Unable to allocate",
    "Attempting to allocate",
)
TYPICAL_TOKENS = 128
FIND_LIMIT_S = 4.0
# Budgets whose rates are so close do not differ by more than noise.
NOISE = 0.05
# A micro-batch should not keep others waiting for longer than this, unless it pays.
SHORT_S = 0.15
# Longer than half of ModernBERT's local attention, beyond which padding sees padding alone.
CHECKED_TOKENS = 160
# Of the largest answer, or of 1: a wrong way of running is off by far more.
TOLERANCE = {"float32": 1e-3, "bfloat16": 0.2, "float16": 0.05, "int8": 0.5}
logger = logging.getLogger("ray.serve")
Forward = Callable[[Sequence[TokenRow]], list[torch.Tensor]]


class EngineError(Exception):
    """An engine failed to load a checkpoint that it should be able to run; another one may not."""


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """What an engine is chosen and built from.

    `make` returns the torch module; it is loaded once however often it is called, and MLX reads
    the weights itself instead. `types` is the module's name for a row's `type_ids`; `typed` says
    whether rows have them. `portable`: the module is an encoder (no cache of keys and values, no
    images). `longest`: the maximum number of tokens in a row.
    """

    checkpoint: Checkpoint
    make: Callable[[], Any]
    output: Output
    types: str = "token_type_ids"
    portable: bool = False
    pad_token_id: int = 0
    typed: bool = False
    longest: int = CHECKED_TOKENS


@dataclass(frozen=True, slots=True)
class Padded:
    """A micro-batch as arrays [rows, longest]; `types` only where the rows have type ids."""

    ids: Ids
    mask: Ids
    types: Ids | None

    @property
    def arrays(self) -> list[Ids]:
        """What there is, in the order of a module's inputs."""
        return [self.ids, self.mask] + ([] if self.types is None else [self.types])


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


def difference(found: Iterable[torch.Tensor], expected: Iterable[torch.Tensor]) -> float:
    """The largest difference, as a share of the largest value expected or of 1."""
    pairs = list(zip(found, expected, strict=True))
    largest = max(float(wanted.abs().max()) for _, wanted in pairs)
    return max(float((got - wanted).abs().max()) for got, wanted in pairs) / max(largest, 1.0)


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
    # Whether the module takes type ids.
    typed: bool
    # Whether rows lie end to end, so that no row is padded to another's length.
    packs: bool = False

    @cached_property
    def stats(self) -> EngineStats:
        """What was run so far."""
        return EngineStats()

    def run(self, rows: Sequence[TokenRow], prefix: Sequence[int] = ()) -> list[torch.Tensor]:
        """For each row, in order: logits [labels], or hidden states [tokens, hidden] or [hidden].

        All in float32. `prefix`: token ids that stand before every row of a causal model; its
        keys and values are computed once. Raises ValueError where the engine takes none.
        """
        forward = self._prepare(prefix)
        # A row costs its attention to the prefix too.
        lengths = [len(prefix) + len(row) for row in rows]
        outputs: dict[int, torch.Tensor] = {}
        for halving in range(MAX_HALVINGS + 1):
            left = [i for i in range(len(rows)) if i not in outputs]
            sizes = [lengths[i] for i in left]
            try:
                for batch in plan(sizes, self.token_budget, self.max_rows, padded=not self.packs):
                    places = [left[i] for i in batch]
                    found = self._timed(forward, [rows[place] for place in places])
                    outputs.update(zip(places, found, strict=True))
                break
            except (torch.OutOfMemoryError, RuntimeError) as error:
                if not _is_out_of_memory(error) or halving == MAX_HALVINGS:
                    raise
                self._shrink()
        return [outputs[i] for i in range(len(rows))]

    def _timed(self, forward: Forward, rows: Sequence[TokenRow]) -> list[torch.Tensor]:
        """A micro-batch's outputs; each engine has them in the processor's memory by then."""
        started = perf_counter()
        found = forward(rows)
        seconds = perf_counter() - started
        tokens = sum(map(len, rows))
        packed = self.packs and all(row.attended is None for row in rows)
        padding = 0 if packed else len(rows) * max(map(len, rows)) - tokens
        self.stats.add(rows=len(rows), tokens=tokens, padding=padding, seconds=seconds)
        return found

    def _shrink(self) -> None:
        """Half the budget from now on: what did not fit once will not fit again."""
        self.token_budget = max(1, self.token_budget // 2)
        self.stats.out_of_memory()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        logger.warning("out of memory: the token budget is %d from now on", self.token_budget)

    def find_budget(self, longest: int, limit_s: float = FIND_LIMIT_S) -> None:
        """Set the token budget to the one with the most tokens a second, within `limit_s`.

        `longest`: tokens that a row may have. Of budgets that are equally fast it is the largest
        that is short, since rows shorter than those tried here gain by company; else the smallest.
        """
        length = min(longest, TYPICAL_TOKENS)
        row = TokenRow([self.pad_token_id] * length, [0] * length if self.typed else None)
        deadline = time.monotonic() + limit_s
        found: dict[int, tuple[float, float]] = {}
        for budget in BUDGETS[self.device.split(":")[0]]:
            self.token_budget = budget
            rows = [row] * max(1, budget // len(row))
            self.run(rows)
            took, now = self._time(rows, deadline)
            if self.token_budget != budget:
                break  # it does not fit
            found[budget] = (len(rows) * len(row) / took, took)
            # The next one takes twice as long, three times over.
            if now + 6 * took > deadline:
                break
        if found:
            self.token_budget = _best(found)

    def _time(self, rows: Sequence[TokenRow], deadline: float) -> tuple[float, float]:
        """Seconds of the faster of two runs, or of one where time is short; and the time now."""
        times: list[float] = []
        now = time.monotonic()
        while not times or (len(times) < 2 and now + times[0] < deadline):
            started = now
            self.run(rows)
            now = time.monotonic()
            times.append(max(now - started, 1e-9))
        return min(times), now

    def run_once(self, rows: Sequence[TokenRow]) -> list[torch.Tensor]:
        """As `run`; equal rows are run once (chunks of one request share their query)."""
        unique = {(tuple(row.input_ids), row.attended): row for row in rows}
        place = {key: i for i, key in enumerate(unique)}
        outputs = self.run(list(unique.values()))
        return [outputs[place[tuple(row.input_ids), row.attended]] for row in rows]

    def head(self, rows: Sequence[int]) -> torch.Tensor | None:
        """Rows of a decoder's last layer, [rows, hidden], where the engine read the weights."""
        return None

    @abstractmethod
    def _prepare(self, prefix: Sequence[int]) -> Forward:
        """A function that runs one micro-batch after the prefix."""


def _best(found: Mapping[int, tuple[float, float]]) -> int:
    """The budget to take, by each one's tokens a second and seconds."""
    enough = max(rate for rate, _ in found.values()) * (1 - NOISE)
    fast = [budget for budget, (rate, _) in found.items() if rate >= enough]
    return max((budget for budget in fast if found[budget][1] <= SHORT_S), default=min(fast))


def _is_out_of_memory(error: Exception) -> bool:
    # mps and MLX say it by a plain RuntimeError.
    said = any(words in str(error) for words in OUT_OF_MEMORY)
    return said or isinstance(error, torch.OutOfMemoryError)
