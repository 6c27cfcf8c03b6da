"""Ports that nobody listens on, and that nobody is given by the system a moment later."""

from __future__ import annotations

import random
import socket
from itertools import islice

# Above those of Ray's workers (10002 to 19999), below those of Ray Serve's direct ingress (30000)
# and below those that the system gives to outgoing connections: Ray's processes take these by the
# dozen while they start, and a port that was free a second ago is theirs.
RANGE = range(20_000, 30_000)


def free_ports(number: int, host: str = "") -> list[int]:
    """So many different ports of `host`; by default, of every address."""
    shuffled = random.SystemRandom().sample(RANGE, len(RANGE))
    return list(islice((port for port in shuffled if _is_free(host, port)), number))


def free_port(host: str = "") -> int:
    return free_ports(1, host)[0]


def _is_free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
