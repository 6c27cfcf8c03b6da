"""Find ports that are free, and that the system will not assign a moment later."""

from __future__ import annotations

import random
import socket
from itertools import islice

# Above the ports of Ray's workers (10002 to 19999), below those of Ray Serve's direct ingress
# (from 30000) and below the ephemeral ports: Ray's processes take dozens of these while starting,
# so a port that was free a second ago may be in use.
RANGE = range(20_000, 30_000)


def free_ports(number: int, host: str = "") -> list[int]:
    """Return `number` different free ports on `host`; by default, on all addresses."""
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
