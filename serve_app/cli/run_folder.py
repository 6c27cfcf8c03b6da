"""The run folder: what a running service needs on disk, readable by its user alone.

It holds Ray's session (its sockets and logs), HAProxy's configuration and sockets, and the token
that Ray's processes ask each other for. It is removed when the service stops. After
a crash it stays, and the next start removes it.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from serve_app.cli import processes

PREFIX = "rerank-"
OWNER = "owner"
TOKEN = "token"
# HAProxy's socket has the longest path: the folder, Ray's node ID (56), `admin.sock`, and a process
# ID and `.tmp` while it is created.
MAX_SOCKET_PATH = 107 if sys.platform.startswith("linux") else 103
MAX_PATH = MAX_SOCKET_PATH - len("/" + "0" * 56 + "/admin.sock.1234567.tmp")


class NoFolder(Exception):
    """No folder for temporary files can be used; the message says why."""


@dataclass(frozen=True)
class RunFolder:
    path: Path
    # Locked for as long as the process that created the folder lives.
    owner: IO[str]

    @property
    def token(self) -> Path:
        return self.path / TOKEN

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        self.owner.close()


def create() -> RunFolder:
    """Create the folder of a service that this process runs. Raises NoFolder."""
    problems = []
    for base in _bases():
        if len(os.fsencode(base)) + len(f"/{PREFIX}12345678") > MAX_PATH:
            problems.append(f"{base}: the path is too long for a socket")
            continue
        try:
            path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
        except OSError as error:
            problems.append(f"{base}: {error.strerror}")
            continue
        owner = (path / OWNER).open("w")
        fcntl.flock(owner, fcntl.LOCK_EX)
        token = os.open(path / TOKEN, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(token, "w") as file:
            file.write(secrets.token_hex(32))
        return RunFolder(path, owner)
    raise NoFolder(f"no folder for temporary files can be used ({'; '.join(problems)})")


def clear_abandoned() -> list[str]:
    """Kill what services of this user left running and remove their folders; say what was done."""
    done = []
    bases = _bases()
    left = {path: found for path, found in processes.marked().items() if path.parent in bases}
    for path in sorted({*left, *_folders()}):
        if not _is_abandoned(path):
            continue
        number = processes.kill(path) if path in left else 0
        shutil.rmtree(path, ignore_errors=True)
        killed = f", killed {number} of its processes" if number else ""
        done.append(f"cleared {path}, left by a service that did not stop properly{killed}")
    return done


def _is_abandoned(path: Path) -> bool:
    try:
        with (path / OWNER).open() as owner:
            fcntl.flock(owner, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # the folder was removed under its processes
        return True
    return True


def _folders() -> Iterator[Path]:
    for base in _bases():
        for owner in base.glob(f"{PREFIX}*/{OWNER}"):
            if owner.stat().st_uid == os.getuid():
                yield owner.parent


def _bases() -> list[Path]:
    bases = (tempfile.gettempdir(), "/tmp", "/var/tmp")
    return list(dict.fromkeys(Path(base).absolute() for base in bases))
