"""Selects the pairs that the guide scores: few of a batch's pairs can be false negatives."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Literal

import torch

Preset = Literal["conservative", "balanced", "aggressive"]


@dataclass(frozen=True, slots=True)
class Prefilter:
    """Selects pairs by the cosines of the model being trained.

    Of a row's candidates in one matrix, the k most similar are considered: `top_k_ratio` of them,
    at least `min_top_k` and at most `max_candidates` (in the anchor-positive matrix, including the
    row's own positive). Candidates below `similarity_threshold` are dropped, except the first
    `min_top_k`. The guide scores those that are also at or above `hybrid_threshold`.

    Pairs not selected are negatives if below `similarity_threshold`. Otherwise they are excluded
    if their cosine is above the positive's.

    Raises ValueError for an invalid bound.
    """

    similarity_threshold: float
    top_k_ratio: float
    min_top_k: int
    max_candidates: int
    hybrid_threshold: float

    def __post_init__(self) -> None:
        for name in ("similarity_threshold", "hybrid_threshold"):
            if not -1 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be from -1 to 1, not {getattr(self, name)}")
        if not 0 <= self.top_k_ratio <= 1:
            raise ValueError(f"top_k_ratio must be from 0 to 1, not {self.top_k_ratio}")
        if self.min_top_k < 0 or self.max_candidates < 1:
            raise ValueError("min_top_k must be at least 0 and max_candidates at least 1")
        if self.min_top_k > self.max_candidates:
            raise ValueError(
                f"min_top_k ({self.min_top_k}) is above max_candidates ({self.max_candidates})"
            )

    @classmethod
    def preset(cls, name: Preset, **changes: float | None) -> Prefilter:
        """A preset with the given fields replaced, except those that are None."""
        if name not in PRESETS:
            raise ValueError(f"{name!r} is not a preset; use one of {', '.join(PRESETS)}")
        known = {field.name for field in fields(cls)}
        if unknown := set(changes) - known:
            raise ValueError(f"unknown prefilter options: {', '.join(sorted(unknown))}")
        given = {name: value for name, value in changes.items() if value is not None}
        return cls(**{**asdict(PRESETS[name]), **given})

    def select(
        self, cosines: torch.Tensor, allowed: torch.Tensor, *, reserved: int = 0
    ) -> torch.Tensor:
        """The pairs that the guide scores: bool [rows, columns], like `cosines` and `allowed`.

        `reserved` of the k candidates are not selected: the row's own positive.
        """
        columns = cosines.shape[1]
        k = max(self.min_top_k, math.ceil(self.top_k_ratio * columns))
        k = min(columns, min(self.max_candidates, k) - reserved)
        if k <= 0:
            return torch.zeros_like(allowed)
        values, where = cosines.masked_fill(~allowed, -torch.inf).topk(k, dim=1)
        rank = torch.arange(k, device=cosines.device)
        kept = (values >= self.similarity_threshold) | (rank < self.min_top_k)
        kept &= (values >= self.hybrid_threshold) & values.isfinite()
        return torch.zeros_like(allowed).scatter_(1, where, kept)

    def exclude_unscored(
        self, cosines: torch.Tensor, own: torch.Tensor, selected: torch.Tensor
    ) -> torch.Tensor:
        """The pairs not selected that are more similar than the row's positive.

        `own` is the cosine with the positive, [rows, 1].
        """
        return ~selected & (cosines >= self.similarity_threshold) & (cosines > own)


# With a batch of 2,048, a row has at most 100, 50 or 20 candidates in each of three matrices: the
# guide scores at most 614,400, 307,200 or 122,880 of 12,582,912 pairs.
PRESETS: dict[str, Prefilter] = {
    "conservative": Prefilter(
        similarity_threshold=0.1,
        top_k_ratio=0.05,
        min_top_k=32,
        max_candidates=100,
        hybrid_threshold=0.1,
    ),
    "balanced": Prefilter(
        similarity_threshold=0.2,
        top_k_ratio=0.025,
        min_top_k=16,
        max_candidates=50,
        hybrid_threshold=0.25,
    ),
    "aggressive": Prefilter(
        similarity_threshold=0.3,
        top_k_ratio=0.01,
        min_top_k=8,
        max_candidates=20,
        hybrid_threshold=0.4,
    ),
}
