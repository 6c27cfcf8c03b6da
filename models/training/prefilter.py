"""Which pairs the guide is asked about: few of a batch's pairs can be false negatives."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Literal

import torch

Preset = Literal["conservative", "balanced", "aggressive"]


@dataclass(frozen=True, slots=True)
class Prefilter:
    """Bounds on what the guide is asked, by the cosines of the model that is trained.

    Of a row's candidates in one matrix the `k` most similar are taken, where k is `top_k_ratio` of
    them, at least `min_top_k`, at most `max_candidates` (in the anchor-positive matrix one place
    is the row's own positive's). Those below `similarity_threshold` drop out, but not among the
    first `min_top_k`. What is left and at least `hybrid_threshold` goes to the guide.

    The others are easy: below `similarity_threshold` they are negatives as they are; from there on
    they are judged by their embeddings' cosine, against the positive's.

    Raises ValueError where a bound makes no sense.
    """

    similarity_threshold: float
    top_k_ratio: float
    min_top_k: int
    max_candidates: int
    hybrid_threshold: float

    def __post_init__(self) -> None:
        for name in ("similarity_threshold", "hybrid_threshold"):
            if not -1 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a cosine: -1 to 1, not {getattr(self, name)}")
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
        """A preset, with those fields changed that are given and not None."""
        if name not in PRESETS:
            raise ValueError(f"{name!r} is not a preset; there are {', '.join(PRESETS)}")
        known = {field.name for field in fields(cls)}
        if unknown := set(changes) - known:
            raise ValueError(f"a pre-filter has no {', '.join(sorted(unknown))}")
        given = {name: value for name, value in changes.items() if value is not None}
        return cls(**{**asdict(PRESETS[name]), **given})

    def hard(
        self, cosines: torch.Tensor, allowed: torch.Tensor, *, places_taken: int = 0
    ) -> torch.Tensor:
        """What goes to the guide: bool, as `cosines` and `allowed`, [rows, columns]."""
        columns = cosines.shape[1]
        k = max(self.min_top_k, math.ceil(self.top_k_ratio * columns))
        k = min(columns, min(self.max_candidates, k) - places_taken)
        if k <= 0:
            return torch.zeros_like(allowed)
        values, where = cosines.masked_fill(~allowed, -torch.inf).topk(k, dim=1)
        rank = torch.arange(k, device=cosines.device)
        kept = (values >= self.similarity_threshold) | (rank < self.min_top_k)
        kept &= (values >= self.hybrid_threshold) & values.isfinite()
        return torch.zeros_like(allowed).scatter_(1, where, kept)

    def easy_but_close(
        self, cosines: torch.Tensor, own: torch.Tensor, asked: torch.Tensor
    ) -> torch.Tensor:
        """Pairs that nobody asked about and that lie nearer than the row's positive.

        `own` is the cosine with the positive, [rows, 1].
        """
        return ~asked & (cosines >= self.similarity_threshold) & (cosines > own)


# At a batch of 2,048 a row has 100, 50 and 20 candidates in each matrix at most: of 12,582,912
# pairs the guide is asked about 614,400, 307,200 and 122,880 at most.
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
