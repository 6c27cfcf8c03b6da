"""Lengths to micro-batches under a token budget."""

from __future__ import annotations

from collections.abc import Sequence


def plan(lengths: Sequence[int], token_budget: int, max_rows: int | None = None) -> list[list[int]]:
    """Cut rows into micro-batches of row indices.

    Rows are taken longest first, so that rows of like length share a batch and padding is near
    zero. A batch's padded size (rows × its longest, in tokens) stays within `token_budget`,
    and its rows within `max_rows`; a row over the budget is a batch of its own.
    """
    batches: list[list[int]] = []
    room = 0
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if room == 0:
            batches.append([])
            room = max(1, token_budget // max(1, lengths[index]))
            room = min(room, max_rows) if max_rows else room
        batches[-1].append(index)
        room -= 1
    return batches
