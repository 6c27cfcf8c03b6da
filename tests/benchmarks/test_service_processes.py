"""`benchmarks.service_processes`, which reads figures of processes from /proc."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid

import pytest

from benchmarks import service_processes
from benchmarks.service_processes import INGRESS, MARK, REPLICA

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["ray::ServeReplica:rerank:Ingress      "], INGRESS),
        (["ray::ServeReplica:rerank:Model-0"], REPLICA),
        (["ray::ServeController.listen_for_change"], "ServeController"),
        (["/a/bin/haproxy", "-db", "-f", "x"], "haproxy"),
        (["/a/bin/python", "-u", "/ray/log_monitor.py", "--x=1"], "log_monitor.py"),
        (["/a/bin/python3.11", "-m", "serve_app", "up"], "serve_app"),
        ([""], ""),
    ],
)
def test_names_of_processes(words: list[str], name: str) -> None:
    assert service_processes.name_of(words) == name


def test_marked_processes_are_found_in_another_session() -> None:
    mark = uuid.uuid4().hex
    # The inner process doesn't have the mark.
    code = "import subprocess; subprocess.run(['cat'], env={})"
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        env={**os.environ, MARK: mark},
        start_new_session=True,
    ) as process:
        while "cat" not in service_processes.processes(mark).values():
            assert process.poll() is None
        found = service_processes.of_all(mark)
        service_processes.reset_peaks(mark)
        process.communicate()
    assert len(found) == 2
    figures = found[process.pid][1]
    assert 0 < figures.private_bytes <= figures.resident_bytes <= figures.peak_bytes
    assert figures.descriptors >= 3
    assert figures.threads == 1
    assert service_processes.of_all(mark) == {}


def test_busy_processes_do_not_settle_and_can_be_killed() -> None:
    mark = uuid.uuid4().hex
    assert service_processes.settle(mark, 10)
    code = "while True: pass"
    with subprocess.Popen([sys.executable, "-c", code], env={**os.environ, MARK: mark}) as process:
        while service_processes.cpu_s(mark) < 0.02:
            assert process.poll() is None
        assert service_processes.kill(mark) == [code]
        assert process.wait(10) == -signal.SIGKILL
    assert service_processes.kill(mark) == []
