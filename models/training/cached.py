"""GradCache for a loss of cosines: the whole batch's loss in the memory of a mini-batch.

Gao et al., "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup"
(arXiv 2101.06983). The three passes are sentence-transformers' `CachedLossMixin`; here is what its
replay lacks (autocast) and the loss's own part: chunks of rows over normalised embeddings.
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
    """What a second forward pass needs to repeat the first: random states, and autocast.

    The second pass runs in `backward`, which a training loop calls outside of its autocast block.
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
            # A cache of casted weights from here would outlive the graph that it belongs to.
            self._stack.enter_context(torch.autocast(device, dtype, cache_enabled=False))

    def __exit__(self, *error: Any) -> None:
        self._stack.close()
        super().__exit__(*error)


class CachedMixin(CachedLossMixin):
    """`CachedLossMixin` whose second pass runs under the first one's autocast."""

    def embed_minibatch(
        self,
        sentence_feature: dict[str, Tensor],
        begin: int,
        end: int,
        with_grad: bool,
        copy_random_state: bool,
        random_state: RandContext | None = None,
    ) -> tuple[Tensor, RandContext | None]:
        """Embed rows [begin, end): [rows, dim], and what a replay needs where it is asked for."""
        replay = Replay(*sentence_feature.values()) if copy_random_state else None
        embeddings, _ = super().embed_minibatch(
            sentence_feature, begin, end, with_grad, False, random_state
        )
        return embeddings, replay


@contextmanager
def full_precision(device: str) -> Iterator[None]:
    """No autocast: cosines over a temperature of 0.01 need more than bf16's 8 bits."""
    with torch.autocast(device, enabled=False):
        yield


def unit(embeddings: Tensors) -> Tensor:
    """Parts of a column to one tensor of unit rows, [rows, dim], at least float32."""
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

    With `with_backward` each chunk's graph is freed at once: gradients gather in leaves that stand
    for the columns, and go on from there in one pass, so that what made the columns (a gather over
    processes, say) runs backwards once. The result is then detached.
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
