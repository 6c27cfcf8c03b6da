"""How many replicas a model has, what each needs of a machine, and when the number changes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import Field

from serve_app.settings.base import Frozen, setting

# Seconds over which pending tokens are averaged: long enough that one request is not a trend, short
# compared with the start of a replica.
LOOK_BACK_S = 5.0
POLICY = "serve_app.deployments.autoscaling:PendingTokens"

Share = Annotated[float, Field(ge=0)]
Delay = Annotated[float, Field(ge=0)]


class ModelScaling(Frozen):
    """Scaling of one model. What is unset is taken from ScalingSettings."""

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
    """Replicas of models (docs/scaling.md). An entry of `models` can override each of these."""

    num_replicas: int = setting(
        "RERANKER_NUM_REPLICAS", 1, "Replicas per model, where `max_replicas` is unset.", ge=1
    )
    min_replicas: int = setting(
        "RERANKER_MIN_REPLICAS",
        1,
        "Minimum replicas per model, where `max_replicas` is set; 0: none while there are no "
        "requests.",
        ge=0,
    )
    max_replicas: int | None = setting(
        "RERANKER_MAX_REPLICAS",
        None,
        "Maximum replicas per model; unset: always `num_replicas`.",
        ge=1,
    )
    target_tokens: int = setting(
        "RERANKER_TARGET_TOKENS",
        16_384,
        "Tokens that may wait per replica before another one is started: about as many as a "
        "replica scores in the time that a request may wait.",
        ge=1,
    )
    upscale_delay_s: float = setting(
        "RERANKER_UPSCALE_DELAY",
        5.0,
        "Seconds with too many tokens before a replica is added. A shorter burst is over before "
        "the replica has started.",
        ge=0,
    )
    downscale_delay_s: float = setting(
        "RERANKER_DOWNSCALE_DELAY",
        120.0,
        "Seconds with too few tokens before a replica is removed: several times as long as one "
        "takes to start.",
        ge=0,
    )
    downscale_to_zero_delay_s: float = setting(
        "RERANKER_DOWNSCALE_TO_ZERO_DELAY",
        600.0,
        "Seconds without a request before the last replica is stopped, where `min_replicas` is 0. "
        "The next request waits for a replica to start.",
        ge=0,
    )
    num_cpus: float | None = setting(
        "RERANKER_NUM_CPUS",
        None,
        "CPUs that Ray reserves per replica, which is also its number of threads; unset: none "
        "reserved, and a thread for every core.",
        ge=0,
    )
    num_gpus: float = setting(
        "RERANKER_NUM_GPUS",
        0.0,
        "GPUs per replica. With a fraction, several replicas share a GPU (its memory is not "
        "partitioned).",
        ge=0,
    )
    resources: dict[str, Share] = setting(
        "RERANKER_RESOURCES",
        {},
        'Other Ray resources per replica, such as `{"mlx": 1}`.',
        json=True,
    )

    def of(self, model: ModelScaling) -> Scaling:
        """The model's own settings, completed by these."""
        own = {
            name: value
            for name in Scaling.model_fields
            if (value := getattr(model, name)) is not None
        }
        if "num_replicas" in own and "max_replicas" not in own:
            own["max_replicas"] = None  # a model with a fixed number of replicas does not scale
        return Scaling(**{**self.model_dump(), **own})


class Scaling(Frozen):
    """Scaling of one model, complete."""

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
        """Why these settings contradict each other; None if they do not."""
        if self.max_replicas is not None and self.max_replicas < self.min_replicas:
            return f"max_replicas ({self.max_replicas}) is below min_replicas ({self.min_replicas})"
        if self.num_gpus > 1 and self.num_gpus != int(self.num_gpus):
            return (
                f"num_gpus must be a fraction of one GPU or a whole number, not {self.num_gpus:g}"
            )
        return None

    @property
    def at_the_start(self) -> int:
        """Replicas that are started with the service."""
        # One even with min_replicas: 0, so that a model that can't be loaded stops the start.
        return self.num_replicas if self.max_replicas is None else max(1, self.min_replicas)

    @property
    def scales_to_zero(self) -> bool:
        """Whether the model has no replica while there are no requests."""
        return self.max_replicas is not None and self.min_replicas == 0

    def deployment_options(self) -> Mapping[str, Any]:
        """Arguments for `serve.deployment(...).options`."""
        actor: dict[str, Any] = {
            # 0: Ray reserves no CPU, so on a laptop the model may use every core.
            "num_cpus": self.num_cpus or 0,
            "num_gpus": self.num_gpus,
        }
        if self.resources:
            actor["resources"] = dict(self.resources)
        if self.max_replicas is None:
            return {"num_replicas": self.num_replicas, "ray_actor_options": actor}
        return {"autoscaling_config": self.autoscaling(), "ray_actor_options": actor}

    def autoscaling(self) -> dict[str, Any]:
        """Arguments for Ray Serve's AutoscalingConfig."""
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
    """Which resource the models need more of than there is at the start; None if all fit.

    Ray would wait for a node with that resource, which never joins a single machine.
    """
    wanted: dict[str, float] = {}
    for scaling in scalings:
        shares = {"CPU": scaling.num_cpus or 0, "GPU": scaling.num_gpus, **scaling.resources}
        for name, share in shares.items():
            wanted[name] = wanted.get(name, 0) + share * scaling.at_the_start
    for name, amount in wanted.items():
        if amount > available.get(name, 0) + 1e-9:
            most = available.get(name, 0)
            return f"the models need {amount:g} {name}, more than the {most:g} available"
    return None
