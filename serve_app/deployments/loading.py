"""Load a replica's scorer, reusing what an earlier replica measured."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import replace
from functools import partial
from importlib import import_module

from ray.serve.handle import DeploymentHandle

from models.types import ModelInfo, ModelLoadError, ModelSpec, Scorer
from serve_app.deployments.metrics_hub import key_of, recall_info

# The hub answers within milliseconds, unless it is still starting and has nothing to recall.
RECALL_TIMEOUT_S = 0.5
# What the families import. Imported first, so that the time does not count as the weights'.
LIBRARIES = ("torch", "transformers")
LOAD_FAILED = "MODEL CANNOT BE LOADED: "

logger = logging.getLogger("ray.serve")


def available_cores() -> int:
    """The cores this process may use (for actors without CPUs, Ray makes torch see only 1)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def load_scorer(spec: ModelSpec, warmup: bool, known: ModelInfo | None) -> Scorer:
    """Load the scorer, warm it up and set its token budget. Raises RuntimeError (LOAD_FAILED)."""
    started = time.perf_counter()
    # Imported here because the ingress imports this module and must not load torch.
    for library in LIBRARIES:
        import_module(library)
    from models.registry import load

    imported = time.perf_counter()
    logger.info("loading model %s from %s", spec.name, spec.source)
    threads = spec.threads or available_cores()
    budget = spec.token_budget or (known.token_budget if known else None)
    try:
        scorer: Scorer = load(replace(spec, threads=threads, token_budget=budget))
    except ModelLoadError as error:
        # On one line, so that the reason can be extracted from the deployment's status.
        raise RuntimeError(LOAD_FAILED + " ".join(str(error).split())) from None
    loaded = time.perf_counter()
    if warmup:
        scorer.score("warm up", ["a document of a few words"] * 4)
        # Each budget tried would recompile compiled modules.
        if budget is None and not spec.compile:
            scorer.find_budget()
    scorer.engine_stats.clear()
    info = scorer.info
    logger.info(
        "model %s is ready in %.1f s (libraries %.1f, weights %.1f, warm-up %.1f): "
        "%s on %s, %s, %d tokens per micro-batch",
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


async def info_from_hub(hub: DeploymentHandle | None, spec: ModelSpec) -> ModelInfo | None:
    """What an earlier replica reported about this model, such as its token budget."""
    if hub is None:
        return None
    known = await recall_info(partial(hub.recall.remote, key_of(spec)), RECALL_TIMEOUT_S)
    return known.info if known is not None else None
