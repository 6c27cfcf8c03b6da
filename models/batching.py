"""Groups rows into micro-batches under a token budget."""

from __future__ import annotations

from collections.abc import Sequence


def plan(
    lengths: Sequence[int], token_budget: int, max_rows: int | None = None, *, padded: bool = True
) -> list[list[int]]:
    """Group rows, given by their lengths, into micro-batches of row indices.

    Rows are taken longest first, so that rows of similar length share a batch and there is almost
    no padding. A batch has at most `token_budget` tokens (rows × longest row if rows are padded,
    otherwise the sum of lengths) and at most `max_rows` rows. A row over the budget gets a batch
    to itself.
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
