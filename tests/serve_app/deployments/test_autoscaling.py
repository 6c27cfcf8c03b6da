"""The number of replicas for the pending tokens, and the meter that counts them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from ray.serve._private.common import DeploymentID
from ray.serve.autoscaling_policy import _apply_autoscaling_config
from ray.serve.config import AutoscalingConfig, AutoscalingContext

from serve_app.deployments.autoscaling import METRIC, Meter, PendingTokens
from serve_app.settings import Settings, load


def options(settings: Settings, index: int = 0) -> Mapping[str, Any]:
    return settings.scaling.of(settings.models.local()[index]).deployment_options()


def decide(
    pending: list[float], *, requests: float = 0, target: int | None = None, least: int = 0
) -> int:
    """The number of replicas that Ray's wrapper of the policy decides on."""
    config = AutoscalingConfig(
        **{
            **options(load({"min_replicas": least, "max_replicas": 8}, {}))["autoscaling_config"],
            "upscale_delay_s": 0,
            "downscale_delay_s": 0,
            "downscale_to_zero_delay_s": 0,
        }
    )
    policy = config.policy.get_policy()(**config.policy.policy_kwargs)
    number = len(pending)
    context = AutoscalingContext(
        deployment_id=DeploymentID(name="Model-0", app_name="rerank"),
        deployment_name="Model-0",
        app_name="rerank",
        current_num_replicas=number,
        target_num_replicas=number if target is None else target,
        running_replicas=[],
        total_num_requests=requests,
        total_queued_requests=0,
        aggregated_metrics={METRIC: dict(enumerate(pending))},
        raw_metrics={},
        capacity_adjusted_min_replicas=least,
        capacity_adjusted_max_replicas=8,
        policy_state={},
        last_scale_up_time=None,
        last_scale_down_time=None,
        current_time=None,
        config=config,
    )
    decision: int = _apply_autoscaling_config(policy)(context)[0]
    return decision


def test_the_number_of_replicas_follows_tokens_not_requests() -> None:
    assert decide([16_384 * 3], requests=1) == 3
    assert decide([100.0], requests=50) == 1
    assert decide([16_384, 16_384, 0, 0], requests=2) == 2


def test_the_last_replica_stops_when_there_are_no_requests() -> None:
    assert decide([0.0], requests=1) == 1
    assert decide([0.0]) == 0


def test_a_request_starts_a_replica_of_a_model_at_zero() -> None:
    assert decide([], requests=1, target=0) == 1
    assert decide([], target=0) == 0


def test_the_policy_works_without_metrics() -> None:
    class Context:
        aggregated_metrics = None
        total_num_requests = 0

    assert PendingTokens(10)(Context()) == (0.0, {})


def test_the_meter_estimates_tokens_by_characters_until_they_are_counted() -> None:
    meter = Meter()
    with meter.holding("abcd", ["x" * 36, "x" * 36]) as load_:
        assert meter.pending == 20
        load_.weigh(25)
        with meter.holding("", ["x" * 8]):
            assert meter.pending == 27
        assert meter.pending == 25
    assert meter.pending == 0
    with pytest.raises(ValueError, match="broken"), meter.holding("", ["x" * 8]):
        raise ValueError("broken")
    assert meter.pending == 0
