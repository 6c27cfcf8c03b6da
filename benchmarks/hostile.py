"""What a small request waits for while the service handles one of the worst requests.

Sends each case of `hostile_bodies` to `rerank up`, with the embedded model or with a tiny
cross-encoder, while another process sends a small request again and again: the same one, which is
cached, and one with a new document, which is scored. A case that leaves the service changed (memory
not freed, a process replaced, no readiness) is followed by a new service.
Run: `make bench NAME=hostile`; BENCH_ARGS has the names of cases, or `--list`. Prints a Markdown
table: status and duration of the request, longest wait and failures of the small ones, growth of
the peak memory of ingress and replica, and growth of memory afterwards.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks import probe, raw_http, servers, service_processes
from benchmarks.hostile_bodies import CASES, Case, Model, Sending
from benchmarks.raw_http import Request
from benchmarks.service_processes import INGRESS, MARK, REPLICA, Figures
from benchmarks.shapes import checkpoint

HEAD = (
    "| request | status | s | cached ms | scored ms | failed | ingress MB | replica MB | kept MB |"
)
IDLE = Case("no request", lambda: Request("/", b""), copies=0)
IDLE_S = 2.0
# Small requests are sent for this long before and after the case.
BEFORE_S = 0.3
AFTER_S = 1.0
DRIP_S = 3.0
HELD = "no response"
REPLACED = "replaced"
# More memory than this after a case, and the next one gets a new service.
KEPT_BYTES = 64 * 10**6
READY_S = 30.0
SETTLE_S = 20.0


@dataclass(frozen=True)
class Row:
    """What was seen of a case."""

    name: str
    about: str
    statuses: Counter[str]
    took_s: float
    small: probe.Seen
    peaks: Mapping[str, str]
    kept: str

    def cells(self) -> str:
        failed = sum(self.small.failed.values())
        cells = [
            f"{self.name}: {self.about}",
            _counts(self.statuses),
            f"{self.took_s:.1f}",
            f"{self.small.cached.longest_s * 1000:.0f}",
            f"{self.small.scored.longest_s * 1000:.0f}",
            f"{failed} of {self.small.requests}"
            + (f": {_counts(self.small.failed)}" * (failed > 0)),
            self.peaks[INGRESS],
            self.peaks[REPLICA],
            self.kept,
        ]
        return f"| {' | '.join(cells)} |"


def _counts(statuses: Counter[str]) -> str:
    """Name one status; count several."""
    if sum(statuses.values()) == 1:
        return next(iter(statuses))
    return ", ".join(f"{count} × {status}" for status, count in sorted(statuses.items())) or "-"


async def send(
    url: str, case: Case, request: Request, limit_s: float, hold_s: float
) -> Counter[str]:
    """Send the copies of a case at once; return their statuses or why there is none."""
    if case.sending is Sending.WHOLE:
        if not case.copies:
            await asyncio.sleep(IDLE_S)
        work = [raw_http.outcome(url, request, limit_s) for _ in range(case.copies)]
    else:
        work = [_hold(url, case.sending, request, hold_s) for _ in range(case.copies)]
    return Counter(await asyncio.gather(*work))


async def _hold(url: str, sending: Sending, request: Request, hold_s: float) -> str:
    """Keep a request unfinished until it gets a response or `hold_s` has passed."""
    try:
        async with asyncio.timeout(hold_s), raw_http.connection(url) as (reader, writer):
            dripping = asyncio.create_task(_drip(writer, sending, request))
            try:
                return str((await raw_http.read(reader)).status)
            finally:
                dripping.cancel()
    except TimeoutError:
        return HELD
    except (OSError, EOFError):
        return raw_http.NO_ANSWER


async def _drip(writer: asyncio.StreamWriter, sending: Sending, request: Request) -> None:
    with suppress(OSError):
        if sending is Sending.UNFINISHED:
            writer.write(request.head)
            writer.write(request.body[:-1])
            return
        if sending is Sending.DRIPPING_BODY:
            writer.write(request.head)
            drops = [request.body[i : i + 1] for i in range(len(request.body) - 1)]
        else:
            start, _, _ = request.head.partition(b"\r\n\r\n")
            writer.write(start + b"\r\n")
            drops = [b"x-drop: %d\r\n" % i for i in range(10_000)]
        for drop in drops:
            writer.write(drop)
            await writer.drain()
            await asyncio.sleep(DRIP_S)


class Service:
    """A running service that is started again when a case has changed it."""

    def __init__(self, model: Model, folder: Path) -> None:
        self._stack = ExitStack()
        self._env = {"RERANKER_MODEL": "embedded", "LOG_LEVEL": "WARNING"}
        if model is Model.CROSS_ENCODER:
            self._env = {
                "RERANKER_LOCAL_MODEL_PATH": str(checkpoint("tiny", folder)),
                "LOG_LEVEL": "WARNING",
            }
        self.mark = ""
        self.fresh = False

    def start(self) -> None:
        self.mark = uuid.uuid4().hex
        self.url = self._started().url
        service_processes.settle(self.mark, SETTLE_S)
        # The first requests allocate more than later ones.
        for _ in range(20):
            for make in (probe.cached, probe.scored):
                asyncio.run(raw_http.outcome(self.url, make(time.time_ns()), READY_S))
        self.fresh = True

    def _started(self) -> servers.Server:
        running = servers.running(servers.rerank_up, {**self._env, MARK: self.mark})
        try:
            return self._stack.enter_context(running)
        except SystemExit as error:
            # Ray gives up early on a busy machine, and the rows before this one took minutes.
            print(f"{error}\nstarting the service again", file=sys.stderr)
            running = servers.running(servers.rerank_up, {**self._env, MARK: self.mark})
            return self._stack.enter_context(running)

    def stop(self) -> None:
        self.fresh = False
        # Whatever doesn't stop in time has been killed.
        with suppress(subprocess.TimeoutExpired):
            self._stack.close()
        if self.mark and (left := service_processes.kill(self.mark)):
            print(f"killed what the service left: {', '.join(left)}", file=sys.stderr)

    def trouble(self) -> str:
        """Wait until the service is ready and idle; return what it is not, or an empty string."""
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            with suppress(httpx.HTTPError):
                if httpx.get(f"{self.url}/ready", timeout=5, trust_env=False).is_success:
                    return "" if service_processes.settle(self.mark, SETTLE_S) else "not idle"
            time.sleep(0.5)
        return "not ready"

    def figures(self) -> dict[int, tuple[str, Figures]]:
        return service_processes.of_all(self.mark)


@contextmanager
def service_of(model: Model) -> Iterator[Service]:
    with tempfile.TemporaryDirectory() as folder:
        service = Service(model, Path(folder))
        try:
            yield service
        finally:
            service.stop()


def measure(service: Service, name: str, case: Case, limit_s: float, hold_s: float) -> Row:
    if not service.fresh:
        service.start()
    request = case.make()
    before = service.figures()
    service_processes.reset_peaks(service.mark)
    statuses, took_s, small = asyncio.run(_watched(service.url, case, request, limit_s, hold_s))
    trouble = service.trouble()
    after = service.figures()
    peaks = {kind: growth(kind, before, after) for kind in (INGRESS, REPLICA)}
    kept = sum(f.private_bytes for _, f in after.values()) - sum(
        f.private_bytes for _, f in before.values()
    )
    if trouble or kept > KEPT_BYTES or REPLACED in peaks.values():
        service.stop()
    shown = f"{kept / 10**6:+.0f}"
    return Row(name, case.about, statuses, took_s, small, peaks, trouble or shown)


async def _watched(
    url: str, case: Case, request: Request, limit_s: float, hold_s: float
) -> tuple[Counter[str], float, probe.Seen]:
    async with probe.probing(url) as small:
        await asyncio.sleep(BEFORE_S)
        started = time.perf_counter()
        statuses = await send(url, case, request, limit_s, hold_s)
        took_s = time.perf_counter() - started
        await asyncio.sleep(AFTER_S)
    return statuses, took_s, small


def growth(
    kind: str, before: Mapping[int, tuple[str, Figures]], after: Mapping[int, tuple[str, Figures]]
) -> str:
    """Return the growth in MB from the memory before to the peak, of the process of this kind."""
    pids = {pid for pid, (name, _) in before.items() if name == kind}
    if not pids or pids != {pid for pid, (name, _) in after.items() if name == kind}:
        return REPLACED
    grown = max(after[pid][1].peak_bytes - before[pid][1].resident_bytes for pid in pids)
    return f"{grown / 10**6:+.0f}"


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", help="names of cases (default: all)")
    parser.add_argument("--list", action="store_true", help="list the cases and exit")
    parser.add_argument(
        "--limit", type=float, default=60, help="seconds per case (default: %(default)g)"
    )
    parser.add_argument(
        "--hold",
        type=float,
        default=30,
        help="seconds to keep slow requests open (default: %(default)g)",
    )
    options = parser.parse_args()
    if unknown := sorted(set(options.cases) - set(CASES)):
        parser.error(f"unknown cases: {', '.join(unknown)}; see --list")
    chosen = {name: CASES[name] for name in options.cases} or CASES
    if options.list:
        print("\n".join(f"{name:36} {case.about}" for name, case in chosen.items()))
        return
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    for model in Model:
        cases = {name: case for name, case in chosen.items() if case.model is model}
        if not cases:
            continue
        print(
            f"\nModel: {model.value}\n\n{HEAD}\n" + "|---" * (HEAD.count("|") - 1) + "|", flush=True
        )
        with service_of(model) as service:
            for name, case in {"idle": IDLE, **cases}.items():
                row = measure(service, name, case, options.limit, options.hold)
                print(row.cells(), flush=True)


if __name__ == "__main__":
    main()
