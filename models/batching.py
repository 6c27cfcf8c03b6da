"""Lengths to micro-batches under a token budget."""

from __future__ import annotations

from collections.abc import Sequence


def plan(
    lengths: Sequence[int], token_budget: int, max_rows: int | None = None, *, padded: bool = True
) -> list[list[int]]:
    """Cut rows into micro-batches of row indices.

    Rows are taken longest first, so that rows of like length share a batch and padding is near
    zero. A batch's size in tokens (rows × its longest, or where rows are not padded their sum)
    stays within `token_budget`, and its rows within `max_rows`; a row over the budget is a batch
    of its own.
    """
    batches: list[list[int]] = []
    room = longest = 0
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        length = max(1, lengths[index])
        if not batches or (longest if padded else length) > room or len(batches[-1]) == max_rows:
            batches.append([])
            room, longest = token_budget, length
        batches[-1].append(index)
        room -= longest if padded else length
    return batches
