"""Contrastive losses whose in-batch negatives a reranker has looked at.

GISTEmbed (Solatorio, arXiv 2402.16829) leaves out negatives that a guide finds more similar than
the positive: they are probably no negatives. There the guide is an embedding model; here it reads
both texts together. Embeddings are cached (GradCache, arXiv 2101.06983), so that the batch may be
thousands.
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
from models.training.guide import Guide, Table
from models.training.texts import TEXTS, BatchTexts, index_texts, texts_of

MarginStrategy = Literal["absolute", "relative"]


class LossOptions(TypedDict, total=False):
    """What both losses take; see `RerankerCachedGISTEmbedLoss`."""

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
    """One matrix of similarities: which texts stand at its sides, and their embeddings.

    `queries` [rows] and `documents` [columns] index the batch's texts; `left` and `right` the
    embedded columns (anchors 0, own positives 1, gathered candidates from 2 on).
    """

    queries: Tensor
    documents: Tensor
    left: int
    right: int
    has_positives: bool = False

    def cosines(self, columns: Tensors) -> Tensor:
        """All of them, on the processor: [rows, columns]."""
        return (columns[self.left] @ columns[self.right].T).cpu()


class RerankerCachedGISTEmbedLoss(CachedMixin, nn.Module):
    """In-batch contrastive loss with a reranker as the guide.

    Inputs: columns (anchor, positive) or (anchor, positive, negative, …), no labels. Each anchor's
    own positive competes with the other positives, with the negatives, with the other anchors
    (`contrast_anchors`), and as a query with the other positives (`contrast_positives`).

    A pair whose score is above the positive's, less `margin`, is left out: `absolute` takes the
    margin off the positive's score, `relative` that share of its size. Texts that are known to
    belong together (a row's own, other positives of its anchor, other anchors of its positive) are
    never negatives, and the guide isn't asked about them.

    `mini_batch_size` rows, or `mini_batch_num_tokens` tokens, are embedded at a time. With
    `gather_across_devices` the candidates are those of all processes; each process asks its guide
    about its own rows alone. Every process must then have the same number of rows.

    Raises ValueError for a model of static embeddings and for options out of range.
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
            raise ValueError("static embeddings can't be cut into mini-batches for the cache")
        if margin_strategy not in ("absolute", "relative"):
            raise ValueError("margin_strategy must be 'absolute' or 'relative'")
        if temperature <= 0 or mini_batch_size < 1 or (mini_batch_num_tokens or 1) < 1:
            raise ValueError("temperature and the mini-batch's size must be positive")
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
        # In a tuple, so that a guide which is a module is no part of what is trained and saved.
        self._guide = (guide,)
        self._tokenizer = getattr(model, "tokenizer", None)
        self._batch: BatchTexts | None = None
        self._table: Table | None = None

    def forward(
        self, sentence_features: Iterable[dict[str, Any]], labels: Tensor | None = None
    ) -> Tensor:
        """The mean loss of the batch's rows, a scalar; its `backward` runs the second pass.

        Raises GuideError where the guide gives no usable scores, ValueError for fewer than two
        columns or columns that are no text.
        """
        columns = list(sentence_features)
        if len(columns) < 2:
            raise ValueError(f"anchors and positives are needed; there is {len(columns)} column")
        self._open([texts_of(column, self._tokenizer) for column in columns])
        try:
            return self.forward_cached(
                [{k: v for k, v in column.items() if k != TEXTS} for column in columns], labels
            )
        finally:
            self._batch = self._table = None

    def calculate_loss(
        self,
        reps: list[list[Tensor]],
        labels: Tensor | None = None,
        *,
        with_backward: bool = False,
    ) -> Tensor:
        """The loss of embeddings: a list of [rows, dim] for each column."""
        if self._batch is None or self._table is None:
            raise RuntimeError("calculate_loss needs the batch's texts: call forward")
        with full_precision(reps[0][0].device.type):
            return self._loss(self._batch, self._table, reps, with_backward)

    def get_config_dict(self) -> dict[str, Any]:
        """What the model card says of the loss."""
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
        """The counters go with `state_dict`."""
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

    def _open(self, columns: list[list[str]]) -> None:
        rows, offset = len(columns[0]), 0
        if self._gathers():
            everyone: list[Any] = [None] * dist.get_world_size()
            dist.all_gather_object(everyone, columns)
            if len({len(part[0]) for part in everyone}) > 1:
                raise ValueError("processes have batches of different sizes; set drop_last")
            columns = [[t for part in everyone for t in part[i]] for i in range(len(columns))]
            offset = dist.get_rank() * rows
        self._batch = index_texts(columns, offset, rows)
        self._table = Table(self._guide[0], self._batch.texts, self._batch.queries, self.counters)
        self.counters.batches += 1
        self.counters.pairs += sum(rows * len(m.documents) for m in self._matrices(self._batch))

    def _gathers(self) -> bool:
        return self.gather_across_devices and dist.is_available() and dist.is_initialized()

    def _matrices(self, batch: BatchTexts) -> list[Matrix]:
        found = [Matrix(batch.anchors, batch.columns[0], 0, 2, has_positives=True)]
        if self.contrast_anchors:
            found.append(Matrix(batch.anchors, batch.anchors, 0, 0))
        if self.contrast_positives:
            found.append(Matrix(batch.positives, batch.columns[0], 1, 2))
        negatives = enumerate(batch.columns[1:], start=3)
        return found + [Matrix(batch.anchors, ids, 0, place) for place, ids in negatives]

    def _loss(
        self, batch: BatchTexts, table: Table, reps: list[list[Tensor]], with_backward: bool
    ) -> Tensor:
        anchors, *candidates = [unit(column) for column in reps]
        own = candidates[0]
        if self._gathers():
            candidates = [all_gather_with_grad(column) for column in candidates]
        columns = [anchors, own, *candidates]
        matrices = self._matrices(batch)
        with torch.no_grad():
            left_out = self._leave_out(batch, table, matrices, [c.detach() for c in columns])
        rows = len(anchors)
        labels = torch.arange(batch.offset, batch.offset + rows, device=anchors.device)

        def part(columns: Tensors, chunk: slice) -> Tensor:
            cosines = [
                (columns[m.left][chunk] @ columns[m.right].T).masked_fill(out[chunk], -torch.inf)
                for m, out in zip(matrices, left_out, strict=True)
            ]
            logits = torch.cat(cosines, dim=1) / self.temperature
            return nn.functional.cross_entropy(logits, labels[chunk], reduction="sum") / rows

        return sum_over_rows(columns, rows, self.mini_batch_size, part, with_backward=with_backward)

    def _leave_out(
        self, batch: BatchTexts, table: Table, matrices: list[Matrix], columns: Tensors
    ) -> list[Tensor]:
        """What is no negative: bool [rows, columns] for each matrix."""
        asked = self._choose(batch, matrices, columns)
        wanted = torch.zeros_like(table.scores, dtype=torch.bool)
        for matrix, chosen in zip(matrices, asked, strict=True):
            row, column = chosen.nonzero(as_tuple=True)
            wanted[matrix.queries[row], matrix.documents[column]] = True
        judged = torch.stack([chosen.any(dim=1) for chosen in asked]).any(dim=0)
        wanted[batch.anchors[judged], batch.positives[judged]] = True
        table.fill(wanted)
        own = table.scores[batch.anchors, batch.positives][:, None]
        less = own.abs() * self.margin if self.margin_strategy == "relative" else self.margin
        found = []
        for matrix, chosen in zip(matrices, asked, strict=True):
            scores = table.scores[matrix.queries][:, matrix.documents]
            out = chosen & (scores > own - less)
            out |= self._close_unasked(batch, matrix, chosen, columns)
            related = batch.related[:, matrix.documents]
            self.counters.dropped += int((out & ~related).sum())
            out |= related
            if matrix.has_positives:
                out[torch.arange(len(out)), batch.offset + torch.arange(len(out))] = False
            found.append(out.to(columns[0].device))
        return found

    def _choose(self, batch: BatchTexts, matrices: list[Matrix], columns: Tensors) -> list[Tensor]:
        """Which pairs the guide is asked about: bool [rows, columns] for each matrix."""
        return [~batch.related[:, matrix.documents] for matrix in matrices]

    def _close_unasked(
        self, batch: BatchTexts, matrix: Matrix, asked: Tensor, columns: Tensors
    ) -> Tensor:
        """Which of the other pairs are left out all the same: bool [rows, columns]."""
        return torch.zeros_like(asked)
