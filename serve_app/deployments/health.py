"""Whether each model responds, asked afresh and of all models at once."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from ray import serve

from models.types import ModelInfo

# Seconds for which an answer counts, so that many probes ask only once.
FRESH_S = 1.0
ASK_TIMEOUT_S = 5.0

# The status of the whole service.
OK, DEGRADED, UNAVAILABLE, STOPPING = "ok", "degraded", "unavailable", "stopping"


class Asked(Protocol):
    """A model's replicas, asked directly."""

    async def ask(self) -> ModelInfo: ...


@dataclass(frozen=True, slots=True)
class Deployed:
    """What Ray Serve's controller says of a model: running replicas, and whether it is failing."""

    running: int
    failing: bool


class ModelHealth:
    """Checks the models when asked, at most once in FRESH_S."""

    def __init__(
        self,
        models: Mapping[str, Asked],
        *,
        scales_to_zero: Collection[str] = (),
        reporting: Callable[[], Counter[str] | None] = lambda: None,
        deployed: Callable[[], Awaitable[Mapping[str, Deployed]]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`scales_to_zero`: models that have no replica while there are no requests.

        `reporting`: replicas that report metrics, by model; None if unknown. `deployed`: what Ray
        Serve says, by model.
        """
        self._models = models
        self._scales_to_zero = frozenset(scales_to_zero)
        self._reporting = reporting
        self._deployed = deployed
        self._clock = clock
        self._check: asyncio.Task[dict[str, str]] | None = None
        self._fresh_until = 0.0

    async def problems(self) -> Mapping[str, str]:
        """What is wrong, by model; models that respond are left out."""
        stale = self._check is not None and self._check.done() and self._clock() > self._fresh_until
        if self._check is None or stale:
            self._check = asyncio.get_running_loop().create_task(self._ask_all())
        # Shielded: other probes wait for the same check.
        return await asyncio.shield(self._check)

    async def _ask_all(self) -> dict[str, str]:
        found = await asyncio.gather(*(self._problem(name) for name in self._models))
        self._fresh_until = self._clock() + FRESH_S
        return {name: text for name, text in zip(self._models, found, strict=True) if text}

    async def _problem(self, name: str) -> str | None:
        try:
            async with asyncio.timeout(ASK_TIMEOUT_S):
                if name not in self._scales_to_zero or await self._should_be_asked(name):
                    await self._models[name].ask()
        except Exception as error:
            return f"the model's replica is not responding ({type(error).__name__})"
        return None

    async def _should_be_asked(self, name: str) -> bool:
        """Whether a model that scales to zero has a replica to ask.

        A call would start a replica, and regular calls would keep it running. If replicas report
        metrics, that is enough. Raises RuntimeError if the deployment is failing.
        """
        reporting = self._reporting()
        if reporting is not None and reporting[name]:
            return False
        if self._deployed is None:
            return False
        state = (await self._deployed())[name]
        if state.failing:
            raise RuntimeError("its deployment is failing")
        return state.running > 0


def status_of(models: Collection[str], problems: Collection[str], loaded: Collection[str]) -> str:
    """The service's status.

    `degraded` if some models respond, and the others did before. Until each model has been loaded
    once, the service is `unavailable`.
    """
    if not problems:
        return OK
    all_were_loaded = all(name in loaded for name in problems)
    return DEGRADED if all_were_loaded and len(problems) < len(models) else UNAVAILABLE


async def deployed_models(deployments: Mapping[str, str]) -> dict[str, Deployed]:
    """What Ray Serve says of this application's deployments; `deployments`: name by model."""
    application = serve.get_replica_context().app_name
    status = await asyncio.to_thread(serve.status)  # asks the controller, and blocks
    found = status.applications[application].deployments
    return {
        model: Deployed(
            running=found[name].replica_states.get("RUNNING", 0),
            failing=found[name].status in ("UNHEALTHY", "DEPLOY_FAILED"),
        )
        for model, name in deployments.items()
    }
