"""The base class of engines: token rows in, logits or hidden states out."""

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
from models.concurrency import Turn, checkpoint
from models.engine_stats import EngineStats
from models.types import ScoringError, TokenRow

Ids = npt.NDArray[np.int64]
# What an engine reads of a module's answer; see Engine.
Output = Literal["logits", "last_hidden_state", "last_token"]
# Out-of-memory errors that one run may recover from.
MAX_HALVINGS = 5
# Micro-batches without an out-of-memory error after which a reduced token budget is doubled.
RECOVERY_BATCHES, MAX_RECOVERY_BATCHES = 256, 65_536
# Token budgets to try, by device.
BUDGETS = {
    "cpu": (512, 1024, 2048, 4096),
    "mps": (2048, 4096, 8192, 16384),
    "cuda": (8192, 16384, 32768, 65536, 131072),
    # MLX's name for its device.
    "gpu": (2048, 4096, 8192, 16384, 32768),
}
# Messages of torch and of MLX.
OUT_OF_MEMORY = (
    "out of memory",
    "Insufficient Memory",
    "Unable to allocate",
    "Attempting to allocate",
)
# Length of the rows that budgets are tried with.
TYPICAL_TOKENS = 128
FIND_LIMIT_S = 4.0
# Relative difference below which two budgets count as equally fast.
NOISE = 0.05
# A micro-batch should take no longer than this, unless a longer one is faster per token.
SHORT_S = 0.15
# Longer than half of ModernBERT's local attention, where padding attends only to padding.
CHECKED_TOKENS = 160
# Allowed error relative to the largest expected value, at least 1. Real mistakes are far larger.
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
    """A micro-batch as arrays [rows, longest]; `types` is None if rows have no type ids."""

    ids: Ids
    mask: Ids
    types: Ids | None

    @property
    def arrays(self) -> list[Ids]:
        """The arrays that are present, in the order of a module's inputs."""
        return [self.ids, self.mask] + ([] if self.types is None else [self.types])


def pad(rows: Sequence[TokenRow], pad_token_id: int) -> Padded:
    """Pad rows on the right."""
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
    """The largest difference, relative to the largest expected value or 1."""
    pairs = list(zip(found, expected, strict=True))
    largest = max(float(wanted.abs().max()) for _, wanted in pairs)
    return max(float((got - wanted).abs().max()) for got, wanted in pairs) / max(largest, 1.0)


class Engine(ABC):
    """Runs rows through a module and reads its `output`.

    `logits`: for each row one vector [labels]. `last_hidden_state`: for each row the hidden states
    [tokens, hidden], or only those at the positions in `row.read`. `last_token`: the hidden state
    of each row's last token, [hidden].
    """

    name: str
    device: str
    dtype: str
    token_budget: int
    pad_token_id: int
    max_rows: int | None
    # Whether rows have type ids.
    typed: bool
    # Whether rows are packed end to end, without padding.
    packs: bool = False

    @cached_property
    def stats(self) -> EngineStats:
        """Counts and distributions of what was run."""
        return EngineStats()

    @cached_property
    def _turn(self) -> Turn:
        """Threads that run rows take turns, one micro-batch each."""
        return Turn()

    @cached_property
    def _recovery(self) -> _Recovery:
        return _Recovery()

    def run(self, rows: Sequence[TokenRow], prefix: Sequence[int] = ()) -> list[torch.Tensor]:
        """Run all rows in micro-batches; return each row's output in float32, in order.

        `prefix`: token ids before every row of a causal model, whose keys and values are computed
        once. Raises ValueError if the engine supports no prefix. On an out-of-memory error the
        token budget is halved and the remaining rows are run again, up to MAX_HALVINGS times. It
        is doubled again after many micro-batches without an error. A row that does not fit even
        alone raises ScoringError and leaves the budget as it was before that row was tried.
        """
        forward = self._guarded_prepare(prefix, len(prefix))
        # Attention to the prefix counts towards a row's cost.
        lengths = [len(prefix) + len(row) for row in rows]
        outputs: dict[int, torch.Tensor] = {}
        for halving in range(MAX_HALVINGS + 1):
            left = [i for i in range(len(rows)) if i not in outputs]
            sizes = [lengths[i] for i in left]
            places: list[int] = []
            try:
                for batch in plan(sizes, self.token_budget, self.max_rows, padded=not self.packs):
                    places = [left[i] for i in batch]
                    with self._turn:
                        checkpoint()
                        found = self._timed(forward, [rows[place] for place in places])
                    outputs.update(zip(places, found, strict=True))
                    self.token_budget = self._recovery.after_success(self.token_budget)
                break
            except (torch.OutOfMemoryError, RuntimeError) as error:
                if not _is_out_of_memory(error):
                    raise
                self._free()
                if len(places) == 1:
                    raise _too_long(lengths[places[0]]) from error
                if halving == MAX_HALVINGS:
                    raise
                self._shrink()
        return [outputs[i] for i in range(len(rows))]

    def _guarded_prepare(self, prefix: Sequence[int], length: int) -> Forward:
        if not length:
            return self._prepare(prefix)
        try:
            with self._turn:
                checkpoint()
                return self._prepare(prefix)
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            self._free()
            raise _too_long(length) from error

    def _timed(self, forward: Forward, rows: Sequence[TokenRow]) -> list[torch.Tensor]:
        """Run a micro-batch and record it. Outputs are in CPU memory, so the time is complete."""
        started = perf_counter()
        found = forward(rows)
        seconds = perf_counter() - started
        tokens = sum(map(len, rows))
        packed = self.packs and all(row.attended is None for row in rows)
        padding = 0 if packed else len(rows) * max(map(len, rows)) - tokens
        self.stats.add(rows=len(rows), tokens=tokens, padding=padding, seconds=seconds)
        return found

    def _shrink(self) -> None:
        """Halve the budget until the recovery."""
        self.token_budget = self._recovery.after_error(self.token_budget)
        logger.warning("out of memory: token budget reduced to %d", self.token_budget)

    def _free(self) -> None:
        """Count an out-of-memory error and free cached memory."""
        self.stats.out_of_memory()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def find_budget(self, longest: int, limit_s: float = FIND_LIMIT_S) -> None:
        """Set the token budget to the one with the most tokens per second, within `limit_s`.

        `longest`: the maximum row length in tokens. Of equally fast budgets it is the largest whose
        micro-batch takes at most SHORT_S, because rows shorter than those tried here benefit from
        larger batches; if there is none, the smallest.
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
                break  # out of memory
            found[budget] = (len(rows) * len(row) / took, took)
            # The next one takes twice as long, and runs three times.
            if now + 6 * took > deadline:
                break
        # What did not fit is not tried again.
        self._recovery = _Recovery()
        if found:
            self.token_budget = _best(found)

    def _time(self, rows: Sequence[TokenRow], deadline: float) -> tuple[float, float]:
        """Seconds of the faster of two runs (one if time is short), and the current time."""
        times: list[float] = []
        now = time.monotonic()
        while not times or (len(times) < 2 and now + times[0] < deadline):
            started = now
            self.run(rows)
            now = time.monotonic()
            times.append(max(now - started, 1e-9))
        return min(times), now

    def run_once(self, rows: Sequence[TokenRow]) -> list[torch.Tensor]:
        """As `run`, but equal rows are run once: chunks of one request share their query."""
        unique = {(tuple(row.input_ids), row.attended): row for row in rows}
        place = {key: i for i, key in enumerate(unique)}
        outputs = self.run(list(unique.values()))
        return [outputs[place[tuple(row.input_ids), row.attended]] for row in rows]

    def head(self, rows: Sequence[int]) -> torch.Tensor | None:
        """Rows of a decoder's output layer, [rows, hidden]; None if torch read the weights."""
        return None

    @abstractmethod
    def _prepare(self, prefix: Sequence[int]) -> Forward:
        """Return a function that runs one micro-batch after the prefix."""


def _best(found: Mapping[int, tuple[float, float]]) -> int:
    """Choose among budgets, given (tokens per second, seconds per micro-batch) of each."""
    enough = max(rate for rate, _ in found.values()) * (1 - NOISE)
    fast = [budget for budget, (rate, _) in found.items() if rate >= enough]
    return max((budget for budget in fast if found[budget][1] <= SHORT_S), default=min(fast))


class _Recovery:
    """Doubles a reduced budget, up to its first value, after micro-batches without an error.

    Each error doubles how many, so that a budget that never fits is hardly ever tried.
    """

    def __init__(self) -> None:
        self._full = 0
        self._needed = 0
        self._done = 0

    def after_error(self, budget: int) -> int:
        """The smaller budget."""
        self._needed = min(MAX_RECOVERY_BATCHES, max(RECOVERY_BATCHES, 2 * self._needed))
        self._full = max(self._full, budget)
        self._done = 0
        return max(1, budget // 2)

    def after_success(self, budget: int) -> int:
        """The same budget, or a larger one."""
        if not self._full:
            return budget
        self._done += 1
        if self._done < self._needed:
            return budget
        self._done = 0
        budget = min(2 * budget, self._full)
        if budget == self._full:
            self._full = 0
        return budget


def _too_long(tokens: int) -> ScoringError:
    return ScoringError(
        f"a row of {tokens} tokens does not fit into the device's memory; send shorter texts, or "
        "lower RERANKER_MAX_LENGTH"
    )


def _is_out_of_memory(error: Exception) -> bool:
    # mps and MLX raise a plain RuntimeError.
    said = any(words in str(error) for words in OUT_OF_MEMORY)
    return said or isinstance(error, torch.OutOfMemoryError)
