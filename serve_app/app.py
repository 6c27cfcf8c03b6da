"""The Ray Serve application, where all deployments are bound together."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ray import serve
from ray.serve import Application

from serve_app.deployments.exposure import check_keys
from serve_app.deployments.ingress import Ingress, deployment_name
from serve_app.deployments.metrics_hub import MetricsHub
from serve_app.deployments.remote_replica import RemoteReplica
from serve_app.deployments.replica import ModelReplica
from serve_app.deployments.serve_logging import config_of
from serve_app.settings import Settings, load
from serve_app.settings.models import LocalModel, RemoteModel

APP_NAME = "rerank"
ROUTER = "ray.serve.experimental.round_robin_router:RoundRobinRouter"


def build(args: Mapping[str, Any] | None = None) -> Application:
    """Build the application, for `serve run serve_app.app:build model=…` and serve_config.yaml.

    Raises SettingsError naming the wrong setting.
    """
    settings = load(args or {}, os.environ)
    check_keys(settings)
    return bind(settings)


def bind(
    settings: Settings, *, warn_if_exposed: bool = True, replica: type = ModelReplica
) -> Application:
    """Bind the ingress to one replica deployment per model and to the metrics hub.

    `replica` replaces ModelReplica where no model is needed, as in a simulation.
    """
    # Bound once, so that all deployments report to the same hub.
    hub = (
        serve.deployment(MetricsHub)
        .options(
            name="MetricsHub",
            ray_actor_options={"num_cpus": 0},
            max_ongoing_requests=100,
            **_logging(settings),
        )
        .bind()
    )
    replicas = [
        _remote(settings, model, i, hub)
        if isinstance(model, RemoteModel)
        else _replica(settings, model, i, hub, replica)
        for i, model in enumerate(settings.models.served())
    ]
    return Ingress.options(  # type: ignore[attr-defined]
        num_replicas=settings.serving.ingress_replicas,
        ray_actor_options={"num_cpus": 0},
        # The service enforces its own limits and answers in the client's dialect; Serve cannot.
        max_ongoing_requests=1_000_000,
        graceful_shutdown_timeout_s=settings.limits.worker_timeout_s,
        **_logging(settings),
    ).bind(
        settings,
        hub,
        warn_if_exposed=warn_if_exposed,
        **{f"model_{i}": r for i, r in enumerate(replicas)},
    )


def _logging(settings: Settings) -> dict[str, Any]:
    """Return Serve's logging options; with text logs, the application's configuration applies."""
    logs = settings.observability
    if logs.log_format == "text":
        return {}
    return {"logging_config": config_of(logs.log_format, logs.log_level)}


def _replica(
    settings: Settings, model: LocalModel, index: int, hub: Application, replica: type
) -> Application:
    deployment = serve.deployment(replica).options(
        name=deployment_name(index),
        **settings.scaling.of(model).deployment_options(),
        # The ingress limits requests; Serve needs this above the batch size, which is in tokens.
        max_ongoing_requests=1_000_000,
        # Round robin: Serve's default router would send all chunks of a request, which arrive at
        # the same time, to the one replica whose queue length it knows.
        request_router_config={"request_router_class": ROUTER},
        # Loading that failed once would fail again: stop with its message.
        max_constructor_retry_count=1,
        graceful_shutdown_timeout_s=settings.limits.worker_timeout_s,
        **_logging(settings),
    )
    application: Application = deployment.bind(
        settings.spec(model),
        micro_batch=settings.inference.micro_batch,
        window_ms=settings.inference.micro_batch_window_ms,
        warmup=settings.inference.warmup,
        hang_s=settings.limits.hang_timeout_s,
        hub=hub,
    )
    return application


def _remote(settings: Settings, model: RemoteModel, index: int, hub: Application) -> Application:
    """Bind a remote model. It needs neither device nor CPU, because it only waits for responses."""
    deployment = serve.deployment(RemoteReplica).options(
        name=deployment_name(index),
        num_replicas=model.num_replicas or settings.scaling.num_replicas,
        ray_actor_options={"num_cpus": 0},
        max_ongoing_requests=settings.limits.max_parallel + settings.limits.max_queue + 1000,
        max_constructor_retry_count=1,
        graceful_shutdown_timeout_s=settings.limits.worker_timeout_s,
        **_logging(settings),
    )
    application: Application = deployment.bind(model.spec(), hub)
    return application
