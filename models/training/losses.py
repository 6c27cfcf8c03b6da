"""Contrastive losses whose in-batch negatives are checked by a reranker.

GISTEmbed (Solatorio, arXiv 2402.16829) excludes negatives that a guide scores above the positive,
because they are probably false negatives. Its guide is an embedding model; here it is a reranker,
which reads both texts together. GradCache (arXiv 2101.06983) allows batches of thousands.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypedDict

import torch
import torch.distributed as dist
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.losses.gradcache import has_static_embedding_input
from sentence_transformers.util import all_gather_with_grad
from torch import Tensor, nn

from models.training.cached import CachedMixin, Tensors, full_precision, sum_over_rows, unit
from models.training.counters import Counters
from models.training.guide import Guide, GuideScores
from models.training.texts import TEXTS, BatchTexts, index_texts, texts_of

MarginStrategy = Literal["absolute", "relative"]


class LossOptions(TypedDict, total=False):
    """Options of both losses; see `RerankerCachedGISTEmbedLoss`."""

    temperature: float
    mini_batch_size: int
    mini_batch_num_tokens: int | None
    show_progress_bar: bool
    margin_strategy: MarginStrategy
    margin: float
    contrast_anchors: bool
    contrast_positives: bool
    gather_across_devices: bool


@dataclass(frozen=True, slots=True)
class Matrix:
    """One similarity matrix: the texts of its rows and columns, and their embeddings.

    `queries` [rows] and `documents` [columns] index the batch's texts. `left` and `right` index
    the embedded columns: 0 anchors, 1 own positives, from 2 gathered candidates.
    """

    queries: Tensor
    documents: Tensor
    left: int
    right: int
    has_positives: bool = False

    def cosines(self, columns: Tensors) -> Tensor:
        """All cosines, on the CPU: [rows, columns]."""
        return (columns[self.left] @ columns[self.right].T).cpu()


class RerankerCachedGISTEmbedLoss(CachedMixin, nn.Module):
    """In-batch contrastive loss with a reranker as the guide.

    Inputs: columns (anchor, positive) or (anchor, positive, negative, …), no labels. An anchor's
    negatives are the other positives, the negative columns and, with `contrast_anchors`, the other
    anchors. `contrast_positives` also contrasts each positive with the other positives.

    A negative is excluded if its score is above the positive's minus `margin`; if `margin_strategy`
    is `relative`, `margin` is a fraction of the magnitude of the positive's score. Texts known to
    be related (a row's own, other positives of its anchor, other anchors of its positive) are never
    negatives and are not sent to the guide.

    `mini_batch_size` rows, or `mini_batch_num_tokens` tokens, are embedded at a time. With
    `gather_across_devices` the candidates of all processes are used; each process calls its guide
    only for its own rows, and all processes must have the same number of rows.

    Raises ValueError for static embedding models and for options out of range.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        guide: Guide,
        temperature: float = 0.01,
        mini_batch_size: int = 32,
        mini_batch_num_tokens: int | None = None,
        show_progress_bar: bool = False,
        margin_strategy: MarginStrategy = "absolute",
        margin: float = 0.0,
        contrast_anchors: bool = True,
        contrast_positives: bool = True,
        gather_across_devices: bool = False,
    ) -> None:
        super().__init__()
        if has_static_embedding_input(model):
            raise ValueError(
                "static embedding models can't be split into mini-batches for the cache"
            )
        if margin_strategy not in ("absolute", "relative"):
            raise ValueError("margin_strategy must be 'absolute' or 'relative'")
        if temperature <= 0 or mini_batch_size < 1 or (mini_batch_num_tokens or 1) < 1:
            raise ValueError("temperature and mini-batch size must be positive")
        self.model = model
        self.temperature = temperature
        self.mini_batch_size = mini_batch_size
        self.mini_batch_num_tokens = mini_batch_num_tokens
        self.show_progress_bar = show_progress_bar
        self.margin_strategy = margin_strategy
        self.margin = margin
        self.contrast_anchors = contrast_anchors
        self.contrast_positives = contrast_positives
        self.gather_across_devices = gather_across_devices
        self.counters = Counters()
        # In a tuple, so that a guide that is a torch module is neither trained nor saved.
        self._guide = (guide,)
        self._tokenizer = getattr(model, "tokenizer", None)
        self._batch: BatchTexts | None = None
        self._scores: GuideScores | None = None

    def forward(
        self, sentence_features: Iterable[dict[str, Any]], labels: Tensor | None = None
    ) -> Tensor:
        """The mean loss of the batch's rows, a scalar; its `backward` runs the second pass.

        Raises GuideError if the guide returns no usable scores, ValueError for fewer than two
        columns or columns that are not text.
        """
        columns = list(sentence_features)
        if len(columns) < 2:
            raise ValueError(
                f"the loss needs anchor and positive columns, got {len(columns)} column"
            )
        self._start_batch([texts_of(column, self._tokenizer) for column in columns])
        try:
            return self.forward_cached(
                [{k: v for k, v in column.items() if k != TEXTS} for column in columns], labels
            )
        finally:
            self._batch = self._scores = None

    def calculate_loss(
        self,
        reps: list[list[Tensor]],
        labels: Tensor | None = None,
        *,
        with_backward: bool = False,
    ) -> Tensor:
        """The loss of the embeddings: for each column a list of [rows, dim]."""
        if self._batch is None or self._scores is None:
            raise RuntimeError("calculate_loss needs the batch's texts: call forward instead")
        with full_precision(reps[0][0].device.type):
            return self._loss(self._batch, self._scores, reps, with_backward)

    def get_config_dict(self) -> dict[str, Any]:
        """The loss's options, for the model card."""
        return {
            "guide": type(self._guide[0]).__name__,
            "temperature": self.temperature,
            "mini_batch_size": self.mini_batch_size,
            "mini_batch_num_tokens": self.mini_batch_num_tokens,
            "margin_strategy": self.margin_strategy,
            "margin": self.margin,
            "contrast_anchors": self.contrast_anchors,
            "contrast_positives": self.contrast_positives,
            "gather_across_devices": self.gather_across_devices,
        }

    def get_extra_state(self) -> dict[str, Any]:
        """The counters, saved with `state_dict`."""
        return asdict(self.counters)

    def set_extra_state(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self.counters, name, value)

    @property
    def citation(self) -> str:
        return (
            "Solatorio: GISTEmbed (arXiv 2402.16829); "
            "Gao et al.: Scaling Deep Contrastive Learning Batch Size (arXiv 2101.06983)"
        )

    def _start_batch(self, columns: list[list[str]]) -> None:
        rows, offset = len(columns[0]), 0
        if self._gathers():
            everyone: list[Any] = [None] * dist.get_world_size()
            dist.all_gather_object(everyone, columns)
            if len({len(part[0]) for part in everyone}) > 1:
                raise ValueError(
                    "processes have batches of different sizes; set dataloader_drop_last"
                )
            columns = [[t for part in everyone for t in part[i]] for i in range(len(columns))]
            offset = dist.get_rank() * rows
        batch = self._batch = index_texts(columns, offset, rows)
        self._scores = GuideScores(self._guide[0], batch.texts, batch.queries, self.counters)
        self.counters.batches += 1
        self.counters.pairs += sum(rows * len(m.documents) for m in self._matrices(batch))

    def _gathers(self) -> bool:
        return self.gather_across_devices and dist.is_available() and dist.is_initialized()

    def _matrices(self, batch: BatchTexts) -> list[Matrix]:
        found = [Matrix(batch.anchors, batch.columns[0], 0, 2, has_positives=True)]
        if self.contrast_anchors:
            found.append(Matrix(batch.anchors, batch.anchors, 0, 0))
        if self.contrast_positives:
            found.append(Matrix(batch.positives, batch.columns[0], 1, 2))
        negatives = enumerate(batch.columns[1:], start=3)
        return found + [Matrix(batch.anchors, ids, 0, column) for column, ids in negatives]

    def _loss(
        self, batch: BatchTexts, guide: GuideScores, reps: list[list[Tensor]], with_backward: bool
    ) -> Tensor:
        anchors, *candidates = [unit(column) for column in reps]
        own = candidates[0]
        if self._gathers():
            candidates = [all_gather_with_grad(column) for column in candidates]
        columns = [anchors, own, *candidates]
        matrices = self._matrices(batch)
        with torch.no_grad():
            excluded = self._excluded(batch, guide, matrices, [c.detach() for c in columns])
        rows = len(anchors)
        labels = torch.arange(batch.offset, batch.offset + rows, device=anchors.device)

        def part(columns: Tensors, chunk: slice) -> Tensor:
            cosines = [
                (columns[m.left][chunk] @ columns[m.right].T).masked_fill(out[chunk], -torch.inf)
                for m, out in zip(matrices, excluded, strict=True)
            ]
            logits = torch.cat(cosines, dim=1) / self.temperature
            return nn.functional.cross_entropy(logits, labels[chunk], reduction="sum") / rows

        return sum_over_rows(columns, rows, self.mini_batch_size, part, with_backward=with_backward)

    def _excluded(
        self, batch: BatchTexts, guide: GuideScores, matrices: list[Matrix], columns: Tensors
    ) -> list[Tensor]:
        """The pairs that are not negatives: bool [rows, columns] for each matrix."""
        selected = self._select(batch, matrices, columns)
        wanted = torch.zeros_like(guide.scores, dtype=torch.bool)
        for matrix, chosen in zip(matrices, selected, strict=True):
            row, column = chosen.nonzero(as_tuple=True)
            wanted[matrix.queries[row], matrix.documents[column]] = True
        # A row without selected pairs needs no score of its positive either.
        rows = torch.stack([chosen.any(dim=1) for chosen in selected]).any(dim=0)
        wanted[batch.anchors[rows], batch.positives[rows]] = True
        guide.fill(wanted)
        own = guide.scores[batch.anchors, batch.positives][:, None]
        margin = own.abs() * self.margin if self.margin_strategy == "relative" else self.margin
        found = []
        for matrix, chosen in zip(matrices, selected, strict=True):
            scores = guide.scores[matrix.queries][:, matrix.documents]
            out = chosen & (scores > own - margin)
            out |= self._excluded_unscored(batch, matrix, chosen, columns)
            related = batch.related[:, matrix.documents]
            self.counters.dropped += int((out & ~related).sum())
            out |= related
            if matrix.has_positives:
                out[torch.arange(len(out)), batch.offset + torch.arange(len(out))] = False
            found.append(out.to(columns[0].device))
        return found

    def _select(self, batch: BatchTexts, matrices: list[Matrix], columns: Tensors) -> list[Tensor]:
        """The pairs that the guide scores: bool [rows, columns] for each matrix."""
        return [~batch.related[:, matrix.documents] for matrix in matrices]

    def _excluded_unscored(
        self, batch: BatchTexts, matrix: Matrix, selected: Tensor, columns: Tensors
    ) -> Tensor:
        """The pairs excluded without a score from the guide: bool [rows, columns]."""
        return torch.zeros_like(selected)
