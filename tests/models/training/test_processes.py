"""Two processes that gather candidates get the gradients of one process with the whole batch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from models.training import OptimizedRerankerCachedGISTEmbedLoss, RerankerCachedGISTEmbedLoss
from tests.models.training.conftest import NEGATIVES, PAIRS
from tests.models.training.stubs import WordGuide, features, lookup

COLUMNS = [*PAIRS, NEGATIVES[0]]
ROWS = 2
OPTIONS: dict[str, Any] = {"temperature": 0.1, "mini_batch_size": 1, "contrast_anchors": False}
HARD: dict[str, Any] = {"similarity_threshold": -1, "hybrid_threshold": -1}


def vectors() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(12, 8)


def losses(model: Any, gather: bool) -> list[RerankerCachedGISTEmbedLoss]:
    return [
        RerankerCachedGISTEmbedLoss(model, WordGuide(), gather_across_devices=gather, **OPTIONS),
        OptimizedRerankerCachedGISTEmbedLoss(
            model, WordGuide(), gather_across_devices=gather, **HARD, **OPTIONS
        ),
    ]


def work(rank: int, folder: str) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    whole = features(COLUMNS)
    part = [{k: v[rank * ROWS : (rank + 1) * ROWS] for k, v in c.items()} for c in whole]
    found = []
    for loss in losses(lookup(vectors()), gather=True):
        loss.model.zero_grad()
        value = loss(part)
        value.backward()
        found.append((value.detach(), loss.model[0].table.weight.grad.clone(), loss.counters))
    torch.save(found, f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_two_processes_give_the_loss_and_gradients_of_one(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(work, (str(tmp_path),), nprocs=2)
    answers = [torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in (0, 1)]
    for number, loss in enumerate(losses(lookup(vectors()), gather=False)):
        loss.model.zero_grad()
        value = loss(features(COLUMNS))
        value.backward()
        (first, first_grad, a), (second, second_grad, b) = (answer[number] for answer in answers)
        torch.testing.assert_close((first + second) / 2, value.detach())
        expected = loss.model[0].table.weight.grad
        torch.testing.assert_close((first_grad + second_grad) / 2, expected)
        assert a.calls + b.calls == loss.counters.calls
        assert a.pairs + b.pairs == loss.counters.pairs
