"""How many replicas models have, what each takes of a machine, and when that changes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import Field

from serve_app.settings.base import Frozen, env

# Pending tokens are averaged over so many seconds: long enough that one request is no trend,
# short against the start of a replica.
LOOK_BACK_S = 5.0
POLICY = "serve_app.deployments.autoscaling:PendingTokens"

Share = Annotated[float, Field(ge=0)]
Delay = Annotated[float, Field(ge=0)]


class ModelScaling(Frozen):
    """One model's own; what is left out is taken from the service's settings."""

    num_replicas: Annotated[int, Field(ge=1)] | None = None
    num_cpus: Share | None = None
    num_gpus: Share | None = None
    resources: dict[str, Share] | None = None
    min_replicas: Annotated[int, Field(ge=0)] | None = None
    max_replicas: Annotated[int, Field(ge=1)] | None = None
    target_tokens: Annotated[int, Field(ge=1)] | None = None
    upscale_delay_s: Delay | None = None
    downscale_delay_s: Delay | None = None
    downscale_to_zero_delay_s: Delay | None = None


class ScalingSettings(Frozen):
    """The service's, for every model that has none of its own."""

    num_replicas: int = env(
        "RERANKER_NUM_REPLICAS", 1, "Replicas of a model, where `max_replicas` is empty.", ge=1
    )
    min_replicas: int = env(
        "RERANKER_MIN_REPLICAS",
        1,
        "Replicas of a model at least, where `max_replicas` is set; 0: none while nobody asks.",
        ge=0,
    )
    max_replicas: int | None = env(
        "RERANKER_MAX_REPLICAS",
        None,
        "Replicas of a model at most; empty: always `num_replicas` (docs/scaling.md).",
        ge=1,
    )
    target_tokens: int = env(
        "RERANKER_TARGET_TOKENS",
        16_384,
        "Tokens that may wait in a replica before another one is started: what a replica scores "
        "in the time that a request may wait.",
        ge=1,
    )
    upscale_delay_s: float = env(
        "RERANKER_UPSCALE_DELAY",
        5.0,
        "Seconds of too many tokens before a replica is added; a shorter burst is over before "
        "the replica has started.",
        ge=0,
    )
    downscale_delay_s: float = env(
        "RERANKER_DOWNSCALE_DELAY",
        120.0,
        "Seconds of too few tokens before a replica is taken away; several times what its start "
        "takes.",
        ge=0,
    )
    downscale_to_zero_delay_s: float = env(
        "RERANKER_DOWNSCALE_TO_ZERO_DELAY",
        600.0,
        "Seconds without a request before the last replica goes, where `min_replicas` is 0: the "
        "next request waits for a start.",
        ge=0,
    )
    num_cpus: float | None = env(
        "RERANKER_NUM_CPUS",
        None,
        "Processors that Ray sets aside for a replica, and its threads; empty: none set aside, "
        "and threads for every core.",
        ge=0,
    )
    num_gpus: float = env(
        "RERANKER_NUM_GPUS",
        0.0,
        "GPUs of a replica; a fraction lets several share one (their memory is not divided).",
        ge=0,
    )
    resources: dict[str, Share] = env(
        "RERANKER_RESOURCES",
        {},
        'Further Ray resources of a replica (JSON in the environment), such as {"mlx": 1}.',
    )
    ingress_replicas: int = env(
        "RERANKER_INGRESS_REPLICAS",
        1,
        "Ingress replicas: each has a queue and a memory tier of its own (docs/scaling.md).",
        ge=1,
    )

    def scaling(self, model: ModelScaling) -> Scaling:
        """The model's own settings over the service's."""
        own = {
            name: value
            for name in Scaling.model_fields
            if (value := getattr(model, name)) is not None
        }
        if "num_replicas" in own and "max_replicas" not in own:
            own["max_replicas"] = None  # a model with a fixed number does not scale
        return Scaling(**{**{n: getattr(self, n) for n in Scaling.model_fields}, **own})


class Scaling(Frozen):
    """What a model gets."""

    num_replicas: int
    num_cpus: float | None
    num_gpus: float
    resources: dict[str, Share]
    min_replicas: int
    max_replicas: int | None
    target_tokens: int
    upscale_delay_s: float
    downscale_delay_s: float
    downscale_to_zero_delay_s: float

    def problem(self) -> str | None:
        """Why these do not go together; None where they do."""
        if self.max_replicas is not None and self.max_replicas < self.min_replicas:
            return f"max_replicas ({self.max_replicas}) is below min_replicas ({self.min_replicas})"
        if self.num_gpus > 1 and self.num_gpus != int(self.num_gpus):
            return f"num_gpus is a fraction of one GPU or a whole number, not {self.num_gpus:g}"
        return None

    @property
    def at_the_start(self) -> int:
        """Replicas that the start waits for."""
        # A model that can't be loaded is to stop the start, also where it may sleep later.
        return self.num_replicas if self.max_replicas is None else max(1, self.min_replicas)

    def deployment_options(self) -> Mapping[str, Any]:
        """As `serve.deployment(...).options` takes them."""
        actor: dict[str, Any] = {
            # Zero asks Ray for no share: on a laptop the model may use every core.
            "num_cpus": self.num_cpus or 0,
            "num_gpus": self.num_gpus,
        }
        if self.resources:
            actor["resources"] = dict(self.resources)
        if self.max_replicas is None:
            return {"num_replicas": self.num_replicas, "ray_actor_options": actor}
        return {"autoscaling_config": self.autoscaling(), "ray_actor_options": actor}

    def autoscaling(self) -> dict[str, Any]:
        """As Ray Serve's AutoscalingConfig takes it."""
        assert self.max_replicas is not None
        return {
            "min_replicas": self.min_replicas,
            "max_replicas": self.max_replicas,
            "initial_replicas": self.at_the_start,
            "upscale_delay_s": self.upscale_delay_s,
            "downscale_delay_s": self.downscale_delay_s,
            "downscale_to_zero_delay_s": self.downscale_to_zero_delay_s,
            "look_back_period_s": LOOK_BACK_S,
            "policy": {
                "policy_function": POLICY,
                "policy_kwargs": {"target_tokens": self.target_tokens},
            },
        }


def shortage(scalings: Iterable[Scaling], available: Mapping[str, float]) -> str | None:
    """What the models ask of Ray at the start beyond what there is; None where it fits.

    Ray would wait for a node that brings it, which on one machine never comes.
    """
    wanted: dict[str, float] = {}
    for scaling in scalings:
        shares = {"CPU": scaling.num_cpus or 0, "GPU": scaling.num_gpus, **scaling.resources}
        for name, share in shares.items():
            wanted[name] = wanted.get(name, 0) + share * scaling.at_the_start
    for name, amount in wanted.items():
        if amount > available.get(name, 0) + 1e-9:
            return f"the models ask for {amount:g} {name} and there is {available.get(name, 0):g}"
    return None
