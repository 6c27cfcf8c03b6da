"""How often the guide was asked, how often it need not be, and both in the trainer's log."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from transformers import TrainerCallback


@dataclass(slots=True)
class Counters:
    """Totals of one process since the loss was made.

    `pairs`: what a guide would be asked without filter or deduplication (three matrices of
    2,048 × 2,048 for such a batch); `calls`: what it was asked; `dropped`: negatives left out of
    the loss as probable positives, beside duplicates. `guide_seconds`: time spent waiting for it.
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
        """What was added since `before`."""
        return Counters(**{k: v - getattr(before, k) for k, v in asdict(self).items()})

    def copy(self) -> Counters:
        return Counters(**asdict(self))


class RerankerCallback(TrainerCallback):  # type: ignore[misc]  # transformers is not followed
    """Adds the guide's counters to each training log, for the steps since the log before.

    The figures are of the process that logs, not of all processes.
    """

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._before = counters.copy()

    def attach(self, trainer: Any) -> None:
        """Take part in a trainer's log, before the reporters (W&B, TensorBoard, …) read it.

        `Trainer(callbacks=…)` puts a callback behind them, where only the log history and the
        console have the figures.
        """
        trainer.callback_handler.callbacks.insert(0, self)

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        if logs is None or "loss" not in logs:
            return
        since = self._counters.minus(self._before)
        self._before = self._counters.copy()
        figures = {
            "reranker_calls": since.calls,
            "reranker_calls_total": self._counters.calls,
            "reranker_share_saved": round(since.share_saved, 6),
            "reranker_dropped": since.dropped,
            "reranker_seconds": round(since.guide_seconds, 3),
        }
        logs.update(figures)
        if state.log_history:
            state.log_history[-1].update(figures)
