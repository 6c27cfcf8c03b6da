"""GradCache for a loss of cosines: the loss of a whole batch in the memory of a mini-batch.

Gao et al., "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup"
(arXiv 2101.06983). The three passes are sentence-transformers' `CachedLossMixin`. This module adds
autocast, which its replay lacks, and the loss computation by chunks of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from sentence_transformers.base.losses.gradcache import CachedLossMixin, RandContext
from torch import Tensor

Tensors = Sequence[Tensor]


class Replay(RandContext):
    """The state for repeating a forward pass exactly: random states and autocast.

    The second pass runs in `backward`, which a training loop calls outside its autocast block.
    """

    def __init__(self, *tensors: Any) -> None:
        super().__init__(*tensors)
        devices = {t.device.type for t in tensors if isinstance(t, Tensor)}
        self._casts = [
            (device, torch.get_autocast_dtype(device))
            for device in sorted(devices)
            if torch.is_autocast_enabled(device)
        ]
        self._stack = ExitStack()

    def __enter__(self) -> None:
        super().__enter__()
        for device, dtype in self._casts:
            # Weights cast and cached here would outlive the graph that they belong to.
            self._stack.enter_context(torch.autocast(device, dtype, cache_enabled=False))

    def __exit__(self, *error: Any) -> None:
        self._stack.close()
        super().__exit__(*error)


class CachedMixin(CachedLossMixin):
    """`CachedLossMixin` whose second pass runs under the autocast of the first."""

    def embed_minibatch(
        self,
        sentence_feature: dict[str, Tensor],
        begin: int,
        end: int,
        with_grad: bool,
        copy_random_state: bool,
        random_state: RandContext | None = None,
    ) -> tuple[Tensor, RandContext | None]:
        """Embed rows [begin, end): [rows, dim], and the state for a replay if requested."""
        replay = Replay(*sentence_feature.values()) if copy_random_state else None
        embeddings, _ = super().embed_minibatch(
            sentence_feature, begin, end, with_grad, False, random_state
        )
        return embeddings, replay


@contextmanager
def full_precision(device: str) -> Iterator[None]:
    """Disable autocast: cosines divided by a temperature of 0.01 need more than bf16's 8 bits."""
    with torch.autocast(device, enabled=False):
        yield


def unit(embeddings: Tensors) -> Tensor:
    """Concatenate a column's parts and normalise its rows: [rows, dim], at least float32."""
    column = torch.cat(list(embeddings))
    return torch.nn.functional.normalize(
        column.to(torch.promote_types(column.dtype, torch.float32)), dim=-1
    )


def sum_over_rows(
    columns: Tensors,
    rows: int,
    size: int,
    part: Callable[[Tensors, slice], Tensor],
    *,
    with_backward: bool,
) -> Tensor:
    """The sum of `part(columns, rows)` over chunks of `size` rows.

    `with_backward` runs each chunk's backward pass immediately, to free its graph, and returns a
    detached sum. Gradients accumulate in detached copies of the columns and then propagate in one
    pass, so what produced the columns (e.g. a gather over processes) runs backward only once.
    """
    leaves = [c.detach().requires_grad_() for c in columns] if with_backward else columns
    total = columns[0].new_zeros(())
    for begin in range(0, rows, size):
        loss = part(leaves, slice(begin, min(begin + size, rows)))
        if with_backward:
            loss.backward()  # type: ignore[no-untyped-call]
            loss = loss.detach()
        total = total + loss
    if with_backward:
        pairs = [(c, leaf.grad) for c, leaf in zip(columns, leaves, strict=True)]
        torch.autograd.backward(
            [c for c, _ in pairs], [torch.zeros_like(c) if g is None else g for c, g in pairs]
        )
    return total
