"""Counters of guide calls, made and saved, and a callback that logs them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from transformers import TrainerCallback


@dataclass(slots=True)
class Counters:
    """Totals of one process since the loss was created.

    `pairs`: pairs to score without filter or deduplication (three matrices of 2,048 × 2,048 for a
    batch of 2,048); `calls`: pairs that the guide scored; `dropped`: negatives excluded from the
    loss as probable positives, not counting duplicates; `guide_seconds`: time spent in the guide.
    """

    batches: int = 0
    pairs: int = 0
    calls: int = 0
    dropped: int = 0
    guide_seconds: float = 0.0

    @property
    def share_saved(self) -> float:
        """1 - calls / pairs; 0 before the first batch."""
        return 1.0 - self.calls / self.pairs if self.pairs else 0.0

    def minus(self, before: Counters) -> Counters:
        """The difference from an earlier copy."""
        return Counters(**{k: v - getattr(before, k) for k, v in asdict(self).items()})

    def copy(self) -> Counters:
        return Counters(**asdict(self))


class RerankerCallback(TrainerCallback):  # type: ignore[misc]  # transformers is not followed
    """Adds the guide's counters to each training log, for the steps since the previous log.

    The numbers are those of the process that logs, not of all processes.
    """

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._before = counters.copy()

    def attach(self, trainer: Any) -> None:
        """Register with a trainer, ahead of its reporters (W&B, TensorBoard, …).

        `Trainer(callbacks=…)` would register it after them, and the numbers would reach only the
        log history and the console.
        """
        trainer.callback_handler.callbacks.insert(0, self)

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        if logs is None or "loss" not in logs:
            return
        since = self._counters.minus(self._before)
        self._before = self._counters.copy()
        numbers = {
            "reranker_calls": since.calls,
            "reranker_calls_total": self._counters.calls,
            "reranker_share_saved": round(since.share_saved, 6),
            "reranker_dropped": since.dropped,
            "reranker_seconds": round(since.guide_seconds, 3),
        }
        logs.update(numbers)
        if state.log_history:
            state.log_history[-1].update(numbers)
