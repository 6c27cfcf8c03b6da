"""The host process of `rerank up`: starts Ray and the application, and stops them cleanly.

`rerank up` starts it with the settings on its standard input, which stays open. When that ends,
`rerank up` is gone, and everything that it started is killed.
"""

from __future__ import annotations

import logging
import os
import pickle
import platform
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

import psutil

from models import hub
from models.types import ModelLoadError
from serve_app.cli import processes, run_folder
from serve_app.cli.daemon import TRAFFIC, is_ready, notify
from serve_app.cli.up import RAY_FAILED, StartError
from serve_app.deployments import haproxy, proxy
from serve_app.settings import Settings
from serve_app.settings.models import RemoteModel
from serve_app.settings.scaling import shortage

PROXY_FLUSH_S = 0.5
RAY = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # The default is 5 s, tried three times; a proxy starts more slowly on a busy machine.
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "30",
    # The default of 10 s suits large clusters; a model at zero replicas would wake up late.
    "RAY_SERVE_HANDLE_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "1",
    "RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "1",
}
ONE_MACHINE = {
    # The default of 0.1 s takes 4% of a core, which a small machine needs for its models.
    "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.2",
    # The default of 15 gives other processes priority over the ingress and the models.
    "RAY_worker_niceness": "0",
    # Ray's processes listen on the loopback interface, as they do on macOS and Windows.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    # Ray would kill the service's processes when other programs use up the memory.
    "RAY_memory_monitor_refresh_ms": "0",
    # A proxy that has died is replaced after three failed checks, 10 s apart by default. They take
    # two rounds of the control loop each.
    "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "0.05",
    "RAY_AUTH_MODE": "token",
}
# For JSON logs: print every line, without Ray's prefix.
PLAIN_CONSOLE = {"RAY_DISABLE_WORKER_LOG_PREFIX": "1", "RAY_DEDUP_LOGS": "0"}
OBJECT_STORE_BYTES = 200 * 2**20
# Ray has no setting for the address of these; everything else is on the loopback interface.
EXPOSED = "note: the replicas' gRPC ports listen on all interfaces, with a token (docs/security.md)"
WATCH_S = 0.5
LOOPBACK = "127.0.0.1"


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
    """Handle SIGTERM and SIGINT: abort the startup, or stop the service once it is ready."""

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


def _watch_children(ending: threading.Event) -> None:
    """End this process when one of Ray's processes that it has started exits."""
    children = psutil.Process().children()

    def watch() -> None:
        while not ending.wait(WATCH_S):
            for child in children:
                if not _is_running(child) and not ending.is_set():
                    _die(f"{_name(child)} (process {child.pid}) has exited; stopping the service")

    threading.Thread(target=watch, name="watch", daemon=True).start()


def _is_running(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.Error:
        return "a process of Ray's"


def _die(message: str) -> NoReturn:
    """Exit at once: Ray's own shutdown would wait for processes that are gone."""
    print(f"rerank: {message}", file=sys.stderr, flush=True)
    os._exit(RAY_FAILED)


def _end_with_parent(folder: Path, ending: threading.Event) -> None:
    """Kill everything when standard input ends: `rerank up` was killed."""
    while os.read(0, 1):  # not sys.stdin: its lock would be held when the interpreter exits
        pass
    ending.set()
    processes.kill(folder, but=[os.getpid()])
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


def main() -> int:
    folder = Path(os.environ[processes.MARK])
    settings: Settings = pickle.load(sys.stdin.buffer)
    ending = threading.Event()
    threading.Thread(
        target=_end_with_parent, args=[folder, ending], name="parent", daemon=True
    ).start()
    try:
        serve_forever(settings, folder, ending)
    except StartError as error:
        print(f"rerank: {error}", file=sys.stderr, flush=True)
        return 1
    return 0


def serve_forever(
    settings: Settings, folder: Path, ending: threading.Event, replica: type | None = None
) -> None:
    """Start Ray, the models and the HTTP server; drain and return on SIGTERM or SIGINT.

    `folder` is the run folder; `ending` is set once the processes started here may exit; `replica`
    replaces ModelReplica in benchmarks. Raises StartError if a model can't be loaded.
    """
    path = _path(settings)
    _download(settings)
    notify_address = os.environ.pop("NOTIFY_SOCKET", None)
    _prepare_environment(settings, path, folder)
    with _step(1, "importing Ray"), proxy.importing(os.environ):
        import ray
        from ray import serve

        from serve_app.deployments.serve_logging import config_of

    print(f"{TRAFFIC}{path}", flush=True)
    print(EXPOSED, flush=True)
    signals = _Signals()
    try:
        with _step(2, "starting Ray"):
            # Hides the message about Ray's token, which is irrelevant on a single machine.
            logging.getLogger("ray._private.authentication.authentication_token_setup").setLevel(
                logging.ERROR
            )
            try:
                ray.init(
                    address="local",
                    include_dashboard=False,
                    object_store_memory=OBJECT_STORE_BYTES,
                    resources=_machine_resources(),
                    logging_level=logging.WARNING,
                    _temp_dir=None if "RAY_TMPDIR" in os.environ else str(folder / "ray"),
                )
            except Exception as error:  # Ray raises no type of its own here
                raise StartError(f"Ray did not start: {error}") from None
            _watch_children(ending)
            signals.install()
            _refuse_shortage(settings, ray.cluster_resources())
            _quieten(settings)
            serve.start(
                http_options={
                    # HAProxy alone listens on the public address.
                    "host": LOOPBACK if path.haproxy else settings.serving.host,
                    "port": settings.serving.port,
                },
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
            f"ready at http://{settings.serving.host}:{settings.serving.port} (page: /docs)",
            flush=True,
        )
        notify("READY=1", notify_address)
        signals.stop.wait()
        notify("STOPPING=1", notify_address)
        print("stopping: finishing requests in flight, rejecting new ones with 503", flush=True)
        _drain(settings)
    except _Stopped:
        print("stopped during startup", flush=True)
        # The routes accept requests slightly before the startup is complete.
        if is_ready(f"http://{settings.serving.host}:{settings.serving.port}"):
            _drain(settings)
    finally:
        signals.starting = False
        ending.set()
        serve.shutdown()
        ray.shutdown()
    print("stopped", flush=True)


def _prepare_environment(settings: Settings, path: proxy.TrafficPath, folder: Path) -> None:
    """Set what Ray's processes read at their start; existing values are kept."""
    own_token = "RAY_AUTH_TOKEN" not in os.environ and "RAY_AUTH_TOKEN_PATH" not in os.environ
    for name, value in {**RAY, **ONE_MACHINE}.items():
        os.environ.setdefault(name, value)
    if own_token:
        os.environ["RAY_AUTH_TOKEN_PATH"] = str(folder / run_folder.TOKEN)
    if settings.observability.log_format == "json":
        os.environ.update(PLAIN_CONSOLE)
    proxy.prepare(path, os.environ, folder)
    if path.haproxy:
        os.environ[haproxy.HOST_VARIABLE] = settings.serving.host


def _machine_resources() -> dict[str, float]:
    """Resources that Ray does not detect: a Mac's GPU, for the apple-silicon profile."""
    is_mac = sys.platform == "darwin" and platform.machine() == "arm64"
    return {"mlx": 1} if is_mac else {}


def _refuse_shortage(settings: Settings, available: Mapping[str, float]) -> None:
    models = settings.models.local()
    if problem := shortage([settings.scaling.of(model) for model in models], available):
        raise StartError(
            f"{problem} on this machine: reduce num_cpus (RERANKER_NUM_CPUS), num_gpus, resources "
            "or the number of replicas"
        )


def _path(settings: Settings) -> proxy.TrafficPath:
    try:
        return proxy.choose(settings.serving.traffic)
    except proxy.TrafficError as error:
        raise StartError(f"{error}; set RERANKER_TRAFFIC=auto or proxy to run without it") from None


def _download(settings: Settings) -> None:
    """Download models from a hub, with a progress bar, before anything is started."""
    for model in settings.models.local():
        spec = settings.spec(model)
        if not hub.is_local(spec):
            try:
                hub.locate(spec, progress=True)
            except ModelLoadError as error:
                raise StartError(str(error)) from None


def _ray_level(settings: Settings) -> str:
    """Serve's own log level: at INFO its controller and proxy log only internals."""
    return (
        "WARNING"
        if settings.observability.log_level == "INFO"
        else settings.observability.log_level
    )


def _quieten(settings: Settings) -> None:
    logging.getLogger("ray.serve").setLevel(_ray_level(settings))


def _run(settings: Settings, replica: type | None) -> None:
    from ray import serve

    from serve_app.app import APP_NAME, bind
    from serve_app.deployments.replica import ModelReplica
    from serve_app.deployments.serve_logging import config_of

    # `rerank up` has already printed the warning.
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
    """The line in which a model replica says why its model can't be loaded."""
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
        # Each ingress replica has its own queue.
        handle = serve.get_app_handle(APP_NAME)
        handle.broadcast("drain", timeout_s).results(timeout_s=timeout_s)
        # The ingress has sent its last responses; give the proxy time to forward them.
        time.sleep(PROXY_FLUSH_S)
    except Exception as error:  # a dead ingress has nothing in flight, so continue stopping
        print(f"draining failed: {error}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
