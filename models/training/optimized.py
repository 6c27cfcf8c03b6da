"""The loss whose guide is asked about a few of a batch's pairs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Unpack

from sentence_transformers import SentenceTransformer
from torch import Tensor

from models.training.cached import Tensors
from models.training.guide import Guide
from models.training.losses import LossOptions, Matrix, RerankerCachedGISTEmbedLoss
from models.training.prefilter import Prefilter, Preset
from models.training.texts import BatchTexts


class OptimizedRerankerCachedGISTEmbedLoss(RerankerCachedGISTEmbedLoss):
    """The same, with the guide asked only where a negative may be none.

    The model's own cosines pick the pairs; `preset` and the fields that replace its bounds are
    explained at `Prefilter`. A row for which nothing is picked costs no call at all. `options` are
    those of `RerankerCachedGISTEmbedLoss`.

    Raises ValueError for an unknown preset and for bounds that make no sense.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        guide: Guide,
        preset: Preset = "balanced",
        *,
        similarity_threshold: float | None = None,
        top_k_ratio: float | None = None,
        min_top_k: int | None = None,
        max_candidates: int | None = None,
        hybrid_threshold: float | None = None,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(model, guide, **options)
        self.preset = preset
        self.prefilter = Prefilter.preset(
            preset,
            similarity_threshold=similarity_threshold,
            top_k_ratio=top_k_ratio,
            min_top_k=min_top_k,
            max_candidates=max_candidates,
            hybrid_threshold=hybrid_threshold,
        )

    def get_config_dict(self) -> dict[str, Any]:
        """What the model card says of the loss."""
        return {**super().get_config_dict(), "preset": self.preset, **asdict(self.prefilter)}

    def _choose(self, batch: BatchTexts, matrices: list[Matrix], columns: Tensors) -> list[Tensor]:
        return [
            self.prefilter.hard(
                matrix.cosines(columns),
                ~batch.related[:, matrix.documents],
                places_taken=int(matrix.has_positives),
            )
            for matrix in matrices
        ]

    def _close_unasked(
        self, batch: BatchTexts, matrix: Matrix, asked: Tensor, columns: Tensors
    ) -> Tensor:
        own = (columns[0] * columns[1]).sum(dim=1, keepdim=True).cpu()
        return self.prefilter.easy_but_close(matrix.cosines(columns), own, asked)
