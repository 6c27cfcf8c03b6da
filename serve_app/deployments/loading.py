"""How a replica comes by its scorer, and what it need not find out again."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import replace
from functools import partial

from ray.serve.handle import DeploymentHandle

from models.types import ModelInfo, ModelLoadError, ModelSpec, Scorer
from serve_app.deployments.metrics_hub import key_of, recalled

# The hub answers within milliseconds, or is still starting, and knows nothing then.
RECALL_TIMEOUT_S = 0.5
LOAD_FAILED = "MODEL CANNOT BE LOADED: "

logger = logging.getLogger("ray.serve")


def available_cores() -> int:
    """Cores that this process may run on (Ray tells torch 1 for an actor with no CPU share)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def load_scorer(spec: ModelSpec, warmup: bool, known: ModelInfo | None) -> Scorer:
    """The scorer, warm and under its token budget. Raises RuntimeError with LOAD_FAILED."""
    started = time.perf_counter()
    # Imported here: the ingress process imports this module and must stay free of torch.
    from models.registry import load

    imported = time.perf_counter()
    logger.info("loading model %s from %s", spec.name, spec.source)
    threads = spec.threads or available_cores()
    budget = spec.token_budget or (known.token_budget if known else None)
    try:
        scorer: Scorer = load(replace(spec, threads=threads, token_budget=budget))
    except ModelLoadError as error:
        # One line, so that whoever reads the deployment's status can find its end.
        raise RuntimeError(LOAD_FAILED + " ".join(str(error).split())) from None
    loaded = time.perf_counter()
    if warmup:
        scorer.score("warm up", ["a document of a few words"] * 4)
        # Compiled modules would be compiled anew for each budget that is tried.
        if budget is None and not spec.compile:
            scorer.find_budget()
    scorer.engine_stats.clear()
    info = scorer.info
    logger.info(
        "model %s is ready in %.1f s (libraries %.1f, weights %.1f, warm-up %.1f): "
        "%s on %s, %s, %d tokens a micro-batch",
        info.name,
        time.perf_counter() - started,
        imported - started,
        loaded - imported,
        time.perf_counter() - loaded,
        info.backend,
        info.device,
        info.dtype,
        info.token_budget,
    )
    return scorer


async def earlier(hub: DeploymentHandle | None, spec: ModelSpec) -> ModelInfo | None:
    """What an earlier replica of this deployment found out: this one need not search again."""
    if hub is None:
        return None
    return await recalled(partial(hub.recall.remote, key_of(spec)), RECALL_TIMEOUT_S)
