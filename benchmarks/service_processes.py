"""Memory, descriptors and threads of a service's processes, from /proc."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

# Set for the service and inherited by each of its processes, whatever session they are in.
MARK = "MEASURED_SERVICE"
INGRESS, REPLICA = "Ingress", "Model-0"
_PROC = Path("/proc")
_RESET_PEAK = "5"
# Places in the fields of /proc/PID/stat from the third on.
_PARENT, _USER_TICKS, _SYSTEM_TICKS = 1, 11, 12
IDLE_CPU_S, POLL_S = 0.1, 0.5


@dataclass(frozen=True)
class Figures:
    """`private_bytes`: memory that no other process shares. `resident_bytes`: all of it."""

    private_bytes: int
    resident_bytes: int
    peak_bytes: int
    descriptors: int
    threads: int


def processes(mark: str) -> dict[int, str]:
    """Return the names of the processes with this mark, and of their descendants, by process ID."""
    entry = f"{MARK}={mark}".encode()
    parents: dict[int, int] = {}
    found: set[int] = set()
    for folder in _PROC.glob("[0-9]*"):
        with suppress(OSError):
            pid = int(folder.name)
            parents[pid] = int(_stat(pid)[_PARENT])
            if entry in (folder / "environ").read_bytes().split(b"\0"):
                found.add(pid)
    # A process that changes its title may overwrite its environment.
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return {pid: name for pid in sorted(found) if (name := _name(pid)) is not None}


def _name(pid: int) -> str | None:
    try:
        words = (_PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return None
    return name_of([word.decode("latin-1") for word in words])


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the third on."""
    return (_PROC / str(pid) / "stat").read_text().rsplit(")", 1)[1].split()


def name_of(words: list[str]) -> str:
    """Return a short name: Ray's title, or the program or module that the command line runs."""
    if words[0].startswith("ray::"):
        title = words[0].strip().removeprefix("ray::").rpartition(":")[2]
        return title.partition(".")[0]
    program = Path(words[0]).name
    if not program.startswith("python"):
        return program
    scripts = [word for word in words[1:] if word and not word.startswith("-")]
    return Path(scripts[0]).name if scripts else program


def figures(pid: int) -> Figures:
    """Raises OSError if the process has exited."""
    folder = _PROC / str(pid)
    status = _fields(folder / "status")
    return Figures(
        private_bytes=_fields(folder / "smaps_rollup")["Pss_Anon"] * 1024,
        resident_bytes=status["VmRSS"] * 1024,
        peak_bytes=status["VmHWM"] * 1024,
        descriptors=sum(1 for _ in (folder / "fd").iterdir()),
        threads=status["Threads"],
    )


def _fields(path: Path) -> dict[str, int]:
    """Return the lines of the form `Name: number`, with or without a unit."""
    found = {}
    for line in path.read_text().splitlines():
        name, _, value = line.partition(":")
        first = value.split()[:1]
        if first and first[0].isdigit():
            found[name] = int(first[0])
    return found


def of_all(mark: str) -> dict[int, tuple[str, Figures]]:
    """Return the name and the figures of each process with this mark."""
    found = {}
    for pid, name in processes(mark).items():
        with suppress(OSError, KeyError):  # exited, or a zombie, which has no memory
            found[pid] = (name, figures(pid))
    return found


def reset_peaks(mark: str) -> None:
    """Set each process's peak of resident memory to what it has now."""
    for pid in processes(mark):
        with suppress(OSError):
            (_PROC / str(pid) / "clear_refs").write_text(_RESET_PEAK)


def cpu_s(mark: str) -> float:
    """Return the CPU seconds used by the running processes with this mark."""
    ticks = 0
    for pid in processes(mark):
        with suppress(OSError):
            fields = _stat(pid)
            ticks += int(fields[_USER_TICKS]) + int(fields[_SYSTEM_TICKS])
    return ticks / os.sysconf("SC_CLK_TCK")


def settle(mark: str, limit_s: float) -> bool:
    """Wait until these processes use almost no CPU; return False if they still do at the end."""
    deadline = time.monotonic() + limit_s
    before = cpu_s(mark)
    while time.monotonic() < deadline:
        time.sleep(POLL_S)
        now = cpu_s(mark)
        if now - before < IDLE_CPU_S:
            return True
        before = now
    return False


def kill(mark: str) -> list[str]:
    """Kill the processes with this mark that are still there; return their names."""
    left = processes(mark)
    for pid in left:
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    return sorted(left.values())
