"""The loss whose guide scores only a few of a batch's pairs."""

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
    """`RerankerCachedGISTEmbedLoss` with a guide that scores only likely false negatives.

    The pairs are selected by the cosines of the model being trained. `preset` and the fields that
    override it are explained in `Prefilter`. A row without selected pairs needs no guide call.
    `options` are those of `RerankerCachedGISTEmbedLoss`.

    Raises ValueError for an unknown preset and for invalid bounds.
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
        """The loss's options, for the model card."""
        return {**super().get_config_dict(), "preset": self.preset, **asdict(self.prefilter)}

    def _select(self, batch: BatchTexts, matrices: list[Matrix], columns: Tensors) -> list[Tensor]:
        return [
            self.prefilter.select(
                matrix.cosines(columns),
                ~batch.related[:, matrix.documents],
                reserved=int(matrix.has_positives),
            )
            for matrix in matrices
        ]

    def _excluded_unscored(
        self, batch: BatchTexts, matrix: Matrix, selected: Tensor, columns: Tensors
    ) -> Tensor:
        own = (columns[0] * columns[1]).sum(dim=1, keepdim=True).cpu()
        return self.prefilter.exclude_unscored(matrix.cosines(columns), own, selected)
