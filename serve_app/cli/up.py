"""Ray and the application on this machine: start in the foreground, stop without a trace."""

from __future__ import annotations

import logging
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType

from models import hub
from models.types import ModelLoadError
from serve_app.cli.daemon import READY, TRAFFIC, is_ready
from serve_app.deployments import proxy
from serve_app.settings import Settings
from serve_app.settings.models import RemoteModel
from serve_app.settings.scaling import shortage

PROXY_FLUSH_S = 0.5
RAY = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Five seconds by default, three times: on a busy machine a proxy's process starts slower.
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "30",
    # Ten seconds by default, for large clusters: a model that sleeps would notice a request late.
    "RAY_SERVE_HANDLE_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "1",
    "RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "1",
}
ONE_MACHINE = {
    # Ten times a second by default, which takes 4% of a core from the models of a small machine.
    "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.25",
    # 15 by default, the ingress and the models among them: whatever else runs here goes first.
    "RAY_worker_niceness": "0",
}
# Of JSON logs: lines as they were written, each of them, with no word of Ray's before it.
PLAIN_CONSOLE = {"RAY_DISABLE_WORKER_LOG_PREFIX": "1", "RAY_DEDUP_LOGS": "0"}
OBJECT_STORE_BYTES = 200 * 2**20


class StartError(Exception):
    """The service can't start; the message says why and what to do."""


class _Stopped(Exception):
    """A signal came while the service was starting."""


@contextmanager
def _step(number: int, text: str) -> Iterator[None]:
    started = time.perf_counter()
    if sys.stdout.isatty():
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (TextColumn("{task.description}"), BarColumn(20), TimeElapsedColumn())
        with Progress(*columns, transient=True) as progress:
            progress.add_task(f"\\[{number}/3] {text}", total=None)
            yield
    else:
        print(f"[{number}/3] {text} …", flush=True)
        yield
    print(f"[{number}/3] {text}: {time.perf_counter() - started:.1f} s", flush=True)


class _Signals:
    """SIGTERM and SIGINT: before the service is ready they end the start, later they stop it."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.starting = True

    def install(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.stop.set()
        if self.starting:
            raise _Stopped


def serve_forever(settings: Settings, replica: type | None = None) -> None:
    """Start Ray, the models and the HTTP server; return after SIGTERM or SIGINT, drained.

    `replica` stands in for ModelReplica in a measurement. Raises StartError when the address is
    taken or a model can't be loaded.
    """
    _refuse_taken_port(settings)
    path = _path(settings)
    _download(settings)
    for name, value in {**RAY, **ONE_MACHINE}.items():
        os.environ.setdefault(name, value)
    if settings.observability.log_format == "json":
        os.environ.update(PLAIN_CONSOLE)
    proxy.prepare(path, os.environ)
    with _step(1, "importing Ray"), proxy.importing(os.environ):
        import ray
        from ray import serve

        from serve_app.deployments.serve_logging import config_of

    print(f"{TRAFFIC}{path}", flush=True)
    signals = _Signals()
    try:
        with _step(2, "starting Ray"):
            # It tells of Ray's token, which on this machine alone needs nobody's care.
            logging.getLogger("ray._private.authentication.authentication_token_setup").setLevel(
                logging.ERROR
            )
            ray.init(
                address="local",
                include_dashboard=False,
                object_store_memory=OBJECT_STORE_BYTES,
                resources=_machine_resources(),
                logging_level=logging.WARNING,
            )
            signals.install()
            _refuse_shortage(settings, ray.cluster_resources())
            _quieten(settings)
            serve.start(
                http_options={"host": settings.serving.host, "port": settings.serving.port},
                logging_config=config_of(settings.observability.log_format, _ray_level(settings)),
            )
        models = ", ".join(
            f"{m.name} ({m.provider if isinstance(m, RemoteModel) else m.source})"
            for m in settings.models.served()
        )
        with _step(3, f"loading {models}"):
            _run(settings, replica)
        signals.starting = False
        print(
            f"{READY}http://{settings.serving.host}:{settings.serving.port} (page: /docs)",
            flush=True,
        )
        signals.stop.wait()
        print("stopping: requests in flight finish, new ones get 503", flush=True)
        _drain(settings)
    except _Stopped:
        print("stopped while starting", flush=True)
        # The routes answer a moment before the start is over.
        if is_ready(f"http://{settings.serving.host}:{settings.serving.port}"):
            _drain(settings)
    finally:
        signals.starting = False
        serve.shutdown()
        ray.shutdown()
    print("stopped", flush=True)


def _machine_resources() -> dict[str, float]:
    """What Ray does not find by itself: a Mac's GPU, which the apple-silicon profile asks for."""
    is_mac = sys.platform == "darwin" and platform.machine() == "arm64"
    return {"mlx": 1} if is_mac else {}


def _refuse_shortage(settings: Settings, available: Mapping[str, float]) -> None:
    models = settings.models.local()
    if problem := shortage([settings.scaling.of(model) for model in models], available):
        raise StartError(
            f"{problem} on this machine: set num_cpus (RERANKER_NUM_CPUS), num_gpus, resources or "
            "the number of replicas lower"
        )


def _path(settings: Settings) -> proxy.Path:
    try:
        return proxy.choose(settings.serving.traffic)
    except proxy.TrafficError as error:
        raise StartError(f"{error}; RERANKER_TRAFFIC=auto or proxy takes the other way") from None


def _download(settings: Settings) -> None:
    """Fetch what is on a hub, with a progress bar, before anything is started."""
    for model in settings.models.local():
        spec = settings.spec(model)
        if not hub.is_local(spec):
            try:
                hub.locate(spec, progress=True)
            except ModelLoadError as error:
                raise StartError(str(error)) from None


def _ray_level(settings: Settings) -> str:
    """Serve's own controller and proxy say at INFO what concerns nobody but their authors."""
    level = settings.observability.log_level
    return "WARNING" if level == "INFO" else level


def _quieten(settings: Settings) -> None:
    logging.getLogger("ray.serve").setLevel(_ray_level(settings))


def _run(settings: Settings, replica: type | None) -> None:
    from ray import serve

    from serve_app.app import APP_NAME, bind
    from serve_app.deployments.replica import ModelReplica
    from serve_app.deployments.serve_logging import config_of

    # `rerank up` has warned already.
    application = bind(settings, warn_if_exposed=False, replica=replica or ModelReplica)
    try:
        serve.run(
            application,
            name=APP_NAME,
            route_prefix="/",
            logging_config=config_of(
                settings.observability.log_format, settings.observability.log_level
            ),
        )
    except RuntimeError as error:
        status = serve.status().applications.get(APP_NAME)
        texts = [str(error)]
        if status is not None:
            texts += [status.message, *(d.message for d in status.deployments.values())]
        raise StartError(_load_failure("\n".join(texts)) or str(error)) from None


def _load_failure(text: str) -> str | None:
    """The one line in which a model replica says why its model can't be loaded."""
    from serve_app.deployments.loading import LOAD_FAILED

    for line in text.splitlines():
        _, found, reason = line.partition(LOAD_FAILED)
        if found:
            return reason.strip()
    return None


def _drain(settings: Settings) -> None:
    from ray import serve

    from serve_app.app import APP_NAME

    timeout_s = settings.limits.worker_timeout_s
    try:
        # Every ingress replica has a queue of its own.
        handle = serve.get_app_handle(APP_NAME)
        handle.broadcast("drain", timeout_s).results(timeout_s=timeout_s)
        # The last answers have left the ingress; the proxy passes them on.
        time.sleep(PROXY_FLUSH_S)
    except Exception as error:  # a dead ingress has nothing in flight; the stop goes on
        print(f"draining failed: {error}", flush=True)


def _refuse_taken_port(settings: Settings) -> None:
    import socket

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.serving.host, settings.serving.port))
        except OSError as error:
            raise StartError(
                f"can't listen on {settings.serving.host}:{settings.serving.port} "
                f"({error.strerror}). "
                "Another service may run there: try PORT=8001, or `rerank down`."
            ) from None
