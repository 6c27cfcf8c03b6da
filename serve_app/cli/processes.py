"""The processes of a service: marked in their environment, so that each can be found and killed.

The mark is the path of the service's run folder. Ray starts dozens of processes in several process
groups, some of which outlive the one that started them; all inherit the environment.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil

MARK = "RERANK_SERVE_RUN"
KILL_TIMEOUT_S = 10.0
PR_SET_CHILD_SUBREAPER = 36


def marked() -> dict[Path, list[psutil.Process]]:
    """This user's processes that belong to a service, by run folder."""
    found: dict[Path, list[psutil.Process]] = defaultdict(list)
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if folder := _mark_of(process):
                found[Path(folder)].append(process)
    return found


def _mark_of(process: psutil.Process) -> str | None:
    if not sys.platform.startswith("linux"):
        return process.environ().get(MARK)
    # Not `environ`, which ends at an empty entry: Ray's agents write their title over the first
    # ones.
    entries = Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")
    start = f"{MARK}=".encode()
    return next((os.fsdecode(e.removeprefix(start)) for e in entries if e.startswith(start)), None)


def kill(folder: Path, but: Iterable[int] = ()) -> int:
    """Kill the processes of the service with this run folder; return how many there were.

    Repeats until none is left, since a process can start another one in the meantime. `but` are
    process IDs to spare.
    """
    killed: set[int] = set()
    while found := [p for p in marked().get(folder, []) if p.pid not in but]:
        for process in found:
            with suppress(psutil.Error):
                process.kill()
        _, alive = psutil.wait_procs(found, KILL_TIMEOUT_S)
        killed |= {process.pid for process in found}
        if alive:  # in uninterruptible I/O; nothing more can be done
            break
    return len(killed)


def adopt_orphans() -> None:
    """Become the parent of all descendants whose own parent ends (Linux only)."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def reap(but: int) -> None:
    """Collect adopted processes that have exited; `but` is the child that is waited for elsewhere.

    `os.waitid` shows one exited child at a time, so nothing is collected once `but` has exited.
    """
    if not sys.platform.startswith("linux"):
        return
    with suppress(ChildProcessError):
        while exited := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if exited.si_pid == but:
                return
            os.waitpid(exited.si_pid, 0)
