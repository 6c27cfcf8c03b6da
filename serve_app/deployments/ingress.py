"""The ingress deployment: HTTP routes, and rerank() for callers with a Ray handle."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any, Unpack, cast

from ray import serve
from ray.serve.handle import DeploymentHandle

from models.pipelines import lexical
from serve_app import __version__
from serve_app.access import Access
from serve_app.api.app import make_app
from serve_app.api.dialects import NATIVE
from serve_app.api.dialects.base import Limits
from serve_app.api.request_body import Bodies
from serve_app.api.responses import Frontend
from serve_app.deployments.allocator import return_large_blocks
from serve_app.deployments.exposure import exposure_warning, http_host, ring_of
from serve_app.deployments.health import STOPPING, ModelHealth, deployed_models, status_of
from serve_app.deployments.metrics_hub import Answer, HubReporter, LoadedModel, key_of
from serve_app.deployments.model_handle import ReplicasHandle
from serve_app.deployments.proxy import in_use
from serve_app.deployments.serve_logging import match_console_format
from serve_app.errors import MetricsUnavailable
from serve_app.pipeline_spec import BM25
from serve_app.request_options import RequestOptions
from serve_app.service.admission import Admission
from serve_app.service.cache import MemoryStore, NullStore, ScoreStore
from serve_app.service.deadline import Deadline, check_timeout
from serve_app.service.rerank import RerankService
from serve_app.settings import Settings
from serve_app.settings.models import RemoteModel
from serve_app.telemetry import Snapshot, Telemetry, merge, tracing
from serve_app.telemetry.request_log import disable_request_log, observe_call
from serve_app.types import RerankResult

logger = logging.getLogger("ray.serve")


# Requests that may be in progress besides those that hold a slot or wait in the queue: being
# parsed, looked up or rendered. The ingress handles that many within a second; more would wait
# unnoticed. Bodies that are still being received are not among them: bytes and time bound those.
BEING_HANDLED = 256


# Shorter than Prometheus' usual timeout of 10 s.
HUB_TIMEOUT_S = 5.0


class HandleOptions(RequestOptions, total=False):
    """The keyword arguments of Ingress.rerank, for callers with a Ray handle."""

    top_n: int | None
    return_documents: bool
    rank_fields: Sequence[str] | None
    relevant_spans: dict[str, Any] | None
    priority: int | None
    sort: bool | None
    truncate: bool | None
    explain: bool
    timeout_s: float | None


def deployment_name(index: int) -> str:
    """The name of the deployment of the served model with this index."""
    return f"Model-{index}"


def _this_replica() -> Frontend:
    return cast(Frontend, serve.get_replica_context().servable_object)


def limits_of(settings: Settings) -> Limits:
    return Limits(
        max_documents=settings.limits.max_documents,
        max_body_bytes=settings.limits.max_body_bytes,
        image_urls=settings.limits.image_urls,
    )


def store_of(settings: Settings) -> ScoreStore:
    """Create the score store configured by the settings."""
    if not settings.cache.enabled:
        return NullStore()
    memory = MemoryStore(max_bytes=settings.cache.max_bytes, ttl_s=settings.cache.ttl_s)
    if not settings.cache.redis_enabled:
        return memory
    # Imported here: they need the extra `redis`.
    from serve_app.service.cache.redis import RedisStore
    from serve_app.service.cache.tiered import TieredStore

    shared = RedisStore(
        settings.cache.redis_url,
        version=__version__,
        prefix=settings.cache.redis_key_prefix,
        ttl_s=settings.cache.redis_ttl_s,
        read_s=settings.cache.redis_read_timeout_ms / 1000,
        max_queue=settings.cache.redis_write_queue,
        on_found=memory.put_many,
    )
    return TieredStore(memory, shared, settings.cache.redis_wait_ms / 1000)


def access_of(settings: Settings, telemetry: Telemetry) -> Access:
    """Create access control from the settings. Raises KeysError if the keys cannot be read."""
    return Access(
        telemetry,
        ring=ring_of(settings),
        rpm=settings.access.rate_limit_rpm,
        tpm=settings.access.rate_limit_tpm,
        open_routes=settings.access.open_routes,
        cors_origins=settings.access.cors_origins,
        prices=settings.access.prices,
    )


@serve.deployment
@serve.ingress(make_app(_this_replica))
class Ingress:
    """Serves HTTP and handle calls with one RerankService."""

    sets_request_id = False

    def __init__(
        self,
        settings: Settings,
        hub: DeploymentHandle,
        warn_if_exposed: bool = True,
        **models: DeploymentHandle,
    ) -> None:
        match_console_format()
        return_large_blocks()
        tracing.start_if_enabled(settings.observability.traces)
        if not settings.observability.access_log:
            disable_request_log()
        self.in_flight = 0
        self.max_in_flight = (
            settings.limits.max_parallel + settings.limits.max_queue + BEING_HANDLED
        )
        self.bodies = Bodies(settings.limits.inflight_bytes)
        self.created = int(time.time())
        self.limits = limits_of(settings)
        self.telemetry = Telemetry()
        self.access = access_of(settings, self.telemetry)
        self._settings = settings
        self._reporter = HubReporter(
            hub, self._own_snapshot, self._known_models, self._learn, keeps_departed=True
        )
        self._store = store_of(settings)
        self._admission = Admission(
            max_parallel=settings.limits.max_parallel,
            max_queue=settings.limits.max_queue,
            queue_timeout_s=settings.limits.queue_timeout_s,
        )
        self._keys = {
            m.name: key_of(m.spec() if isinstance(m, RemoteModel) else settings.spec(m))
            for m in settings.models.served()
        }
        self._replicas = {
            name: ReplicasHandle(models[f"model_{i}"], partial(hub.recall.remote, key))
            for i, (name, key) in enumerate(self._keys.items())
        }
        served = settings.models.served()
        self._health = ModelHealth(
            self._replicas,
            scales_to_zero=[
                m.name for m in settings.models.local() if settings.scaling.of(m).scales_to_zero
            ],
            reporting=lambda: self._reporter.replicas,
            deployed=partial(
                deployed_models, {m.name: deployment_name(i) for i, m in enumerate(served)}
            ),
        )
        self.service = RerankService(
            catalog=settings.models.catalog(),
            replicas=self._replicas,
            store=self._store,
            admission=self._admission,
            telemetry=self.telemetry,
            max_retries=settings.limits.max_retries,
            worker_timeout_s=settings.limits.worker_timeout_s,
            image_hosts=settings.limits.image_private_hosts,
            fallbacks={m.name: m.fallback for m in settings.models.entries if m.fallback},
            pipelines=settings.models.pipelines(),
        )
        if any(BM25 in pipeline.names for pipeline in settings.models.pipelines().values()):
            # Loaded at start, because its import would delay the first request.
            lexical.bm25("warm up", ["warm up"])
        loop = asyncio.get_event_loop()
        self._closed = False
        self._reporter.start()
        self._tasks: list[asyncio.Task[None]] = []
        if warn_if_exposed:
            self._tasks.append(loop.create_task(self._warn_if_exposed()))
        if settings.cache.clear_interval_s:
            self._tasks.append(loop.create_task(self._clear_forever()))

    async def rerank(
        self,
        query: str,
        documents: Sequence[str | dict[str, Any]],
        **options: Unpack[HandleOptions],
    ) -> RerankResult:
        """Rank documents for a query, like an HTTP request in the native format.

        `options`: the fields of that format (docs/api.md). `timeout_s`: seconds after which the
        caller no longer needs the result (docs/reliability.md).
        Raises a RerankError (InvalidRequest, UnknownModel, Overloaded, DeadlineExceeded, …), and
        TypeError for an unknown option.
        """
        if unknown := options.keys() - HandleOptions.__annotations__.keys():
            raise TypeError(f"rerank() got an unexpected keyword argument {min(unknown)!r}")
        timeout_s = options.pop("timeout_s", None)
        given = {name: value for name, value in options.items() if value is not None}
        body = {**given, "query": query, "documents": list(documents)}
        with observe_call():
            deadline = Deadline() if timeout_s is None else Deadline.after(check_timeout(timeout_s))
            request = NATIVE.parse(body, self.limits)
            return await self.service.rerank(replace(request, deadline=deadline.at))

    @property
    def closing(self) -> bool:
        return self._admission.closed

    async def drain(self, timeout_s: float) -> bool:
        """Refuse new requests and wait for those in flight. Returns True if none is left."""
        self._admission.close()
        deadline = time.monotonic() + timeout_s
        drained = await self._admission.drain(timeout_s)
        # This call came by handle, so it is not counted as an HTTP request.
        while self.in_flight:
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.01)
        await self._close()
        return drained

    async def __del__(self) -> None:
        # Ray Serve calls it when the replica stops.
        if not getattr(self, "_closed", True):
            await self._close()

    async def _close(self) -> None:
        self._closed = True
        await self._reporter.stop()
        await self.service.close()
        await self._store.close()
        await asyncio.to_thread(tracing.flush)

    async def snapshot(self) -> Snapshot:
        """Return the metrics of all replicas. Raises MetricsUnavailable."""
        try:
            async with asyncio.timeout(HUB_TIMEOUT_S):
                return merge(await self._reporter.totals())
        except Exception as error:
            # The metrics of this process alone would look like a reset of all counters.
            raise MetricsUnavailable(
                f"the metrics hub is not responding ({type(error).__name__}); try again in a moment"
            ) from error

    async def health(self) -> dict[str, Any]:
        """Return the status, queue and models.

        The status is `degraded` while some models do not respond, `unavailable` while none does.
        """
        problems = await self._health.problems()
        loaded = [name for name, replicas in self._replicas.items() if replicas.known]
        status = status_of(self._replicas, problems, loaded)
        return {
            "status": STOPPING if self.closing else status,
            "controller": {
                "waiting": self._admission.waiting,
                "active": self._admission.active,
                "available_slots": self._admission.available_slots,
                "max_parallel": self._admission.max_parallel,
                "max_queue": self._admission.max_queue,
            },
            "models": {name: self._model(name, problems.get(name)) for name in self._replicas},
            "pipelines": {
                name: pipeline.model_dump(by_alias=True, exclude_none=True)
                for name, pipeline in self.service.pipelines.items()
            },
            "traffic": str(in_use(os.environ)),
            "default_model": self.service.catalog.default,
        }

    def _model(self, name: str, problem: str | None) -> dict[str, Any]:
        """What is known about a model, and what is wrong with it."""
        shown: dict[str, Any] = {}
        if (known := self._replicas[name].known) is not None:
            cache = {"enabled": self._settings.cache.enabled, **self._store.stats()}
            shown = {**asdict(known.info), "cache": cache}
        if problem is not None:
            shown["error"] = problem
        return shown

    async def _warn_if_exposed(self) -> None:
        # Serve, not the settings, knows which host it listens on; asking it may block.
        host = await asyncio.to_thread(http_host)
        if host is not None and (warning := exposure_warning(host, self._settings)):
            logger.warning(warning)

    async def _own_snapshot(self) -> Snapshot:
        return self.telemetry.snapshot(
            waiting=self._admission.waiting,
            active=self._admission.active,
            shared=self._store.shared_stats(),
        )

    def _learn(self, answer: Answer) -> None:
        for name, key in self._keys.items():
            if (told := answer.models.get(key)) is not None:
                self._replicas[name].learn(told)

    def _known_models(self) -> dict[str, LoadedModel]:
        return {
            self._keys[name]: replicas.known
            for name, replicas in self._replicas.items()
            if replicas.known is not None
        }

    async def _clear_forever(self) -> None:
        while True:
            await asyncio.sleep(self._settings.cache.clear_interval_s)
            self._store.clear()
