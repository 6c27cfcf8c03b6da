"""Scaling settings: what each replica reserves, and how many there are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from ray.serve.config import AutoscalingConfig

from serve_app.settings import Settings, SettingsError, load
from serve_app.settings.scaling import shortage


def options(settings: Settings, index: int = 0) -> Mapping[str, Any]:
    return settings.scaling.of(settings.models.local()[index]).deployment_options()


def test_the_default_is_one_replica_without_reservations() -> None:
    assert options(load({}, {})) == {
        "num_replicas": 1,
        "ray_actor_options": {"num_cpus": 0, "num_gpus": 0},
    }


def test_a_models_own_scaling_overrides_that_of_all_models() -> None:
    models = [
        {"name": "a"},
        {"name": "b", "num_gpus": 0.25, "max_replicas": 6, "resources": {"mlx": 1}},
        {"name": "c", "num_replicas": 3},
    ]
    settings = load({"models": models, "num_gpus": 0.5, "max_replicas": 4}, {})
    assert options(settings, 0)["ray_actor_options"]["num_gpus"] == 0.5
    second = options(settings, 1)
    assert second["ray_actor_options"] == {
        "num_cpus": 0,
        "num_gpus": 0.25,
        "resources": {"mlx": 1},
    }
    assert second["autoscaling_config"]["max_replicas"] == 6
    assert options(settings, 2)["num_replicas"] == 3


def test_reserved_cpus_are_the_models_threads() -> None:
    settings = load({}, {"RERANKER_NUM_CPUS": "3", "RERANKER_RESOURCES": '{"mlx": 1}'})
    assert settings.spec(settings.models.local()[0]).threads == 3
    assert options(settings)["ray_actor_options"]["resources"] == {"mlx": 1}


@pytest.mark.parametrize(
    ("args", "match"),
    [
        ({"min_replicas": 3, "max_replicas": 2}, r"max_replicas \(2\) is below min_replicas"),
        ({"num_gpus": 1.5}, "num_gpus must be a fraction of one GPU or a whole number"),
        ({"models": [{"name": "a", "max_replicas": 1, "min_replicas": 2}]}, "model 'a'"),
    ],
)
def test_contradicting_settings_are_refused(args: dict[str, Any], match: str) -> None:
    with pytest.raises(SettingsError, match=match):
        load(args, {})


def test_a_resource_that_the_machine_lacks_is_named() -> None:
    models = [{"name": "a", "num_cpus": 2, "num_replicas": 2}, {"name": "b", "num_gpus": 0.5}]
    settings = load({"models": models}, {})
    wanted = [settings.scaling.of(model) for model in settings.models.local()]
    assert shortage(wanted, {"CPU": 4, "GPU": 1}) is None
    assert shortage(wanted, {"CPU": 4}) == "the models need 0.5 GPU, more than the 0 available"
    assert (
        shortage(wanted, {"CPU": 2, "GPU": 1}) == "the models need 4 CPU, more than the 2 available"
    )
    asleep = load({"min_replicas": 0, "max_replicas": 9, "num_cpus": 2}, {})
    assert shortage([asleep.scaling.of(asleep.models.local()[0])], {"CPU": 2}) is None


def test_a_model_that_can_scale_to_zero_starts_with_one_replica() -> None:
    config = options(load({"min_replicas": 0, "max_replicas": 2}, {}))["autoscaling_config"]
    parsed = AutoscalingConfig(**config)
    assert (parsed.min_replicas, parsed.initial_replicas) == (0, 1)
    assert parsed.policy.policy_kwargs == {"target_tokens": 16384}
