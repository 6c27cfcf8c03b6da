"""The cost of ingress, routing and score store as replicas grow, with a model that only sleeps.

The nodes are virtual (ray.cluster_utils) and all share this machine's CPUs, so requests per
second mean little; CPU time per request shows what grows.
Run: `make bench NAME=simulate` (needs `wrk`). Prints a Markdown table of CPU time per request
and component, and the memory tier's hit rate with several ingress replicas for each Ray router.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks import servers
from benchmarks.serving import wrk
from serve_app.deployments.ports import free_port

REPLICAS_PER_NODE = 16
ROUTERS: dict[str, dict[str, Any] | None] = {
    "power of two": None,
    "consistent hash": {
        "request_router_class": "ray.serve.experimental.consistent_hash_router:ConsistentHashRouter"
    },
}
PARTS = {
    "ServeReplica:rerank:Ingress": "ingress",
    "ServeReplica:rerank:Model": "models",
    "ProxyActor": "proxy",
    "ServeController": "controller",
    "raylet": "ray",
    "gcs_server": "ray",
}
HEAD = "| ingress | replicas | case | clients | requests/s | p50 ms | p99 ms |"


def cpu_by_part(session: int) -> dict[str, float]:
    """Return the CPU seconds of the session's processes by component."""
    spent = dict.fromkeys(PARTS.values(), 0.0)
    for pid, fields in servers.processes(session):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_text()
        except OSError:
            continue
        part = next((part for name, part in PARTS.items() if name in command), None)
        if part is not None:
            spent[part] += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return spent


@contextmanager
def cluster(replicas: int, port: int) -> Iterator[None]:
    """Start a head node without CPUs for models, and virtual nodes for `replicas` models."""
    import ray
    from ray import serve
    from ray.cluster_utils import Cluster

    memory = 100 * 2**20
    nodes = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 0,
            "include_dashboard": False,
            "object_store_memory": memory,
        },
    )
    try:
        for start in range(0, replicas, REPLICAS_PER_NODE):
            cpus = min(REPLICAS_PER_NODE, replicas - start)
            nodes.add_node(num_cpus=cpus, object_store_memory=memory)
        ray.init(address=nodes.address, logging_level="ERROR", log_to_driver=False)
        serve.start(
            proxy_location="HeadOnly",
            http_options={"host": "127.0.0.1", "port": port},
            logging_config={"log_level": "WARNING", "enable_access_log": False},
        )
        yield
        serve.shutdown()
    finally:
        ray.shutdown()
        nodes.shutdown()


def deploy(replicas: int, ingresses: int, router: dict[str, Any] | None = None) -> Any:
    """Deploy the service with `replicas` sleeping models; return its handle."""
    from ray import serve
    from ray.serve.schema import LoggingConfig

    from benchmarks.waiting import WaitingReplica
    from serve_app.app import bind
    from serve_app.settings import load

    args = {"num_replicas": replicas, "num_cpus": 1, "ingress_replicas": ingresses}
    application = bind(load(args, {}), warn_if_exposed=False, replica=WaitingReplica)
    if router is not None:
        bound = application._bound_deployment
        application._bound_deployment = bound.options(request_router_config=router)
    quiet = LoggingConfig(log_level="WARNING", enable_access_log=False)
    return serve.run(application, name="rerank", route_prefix="/", logging_config=quiet)


def measure(url: str, ingresses: int, replicas: int, seconds: float) -> None:
    """Print two rows: uncached and cached."""
    clients = min(64, max(2, 2 * replicas))
    for case in ("uncached", "cached"):
        wrk(url, case, 1, 1, "/v1/rerank")
        before = cpu_by_part(os.getsid(0))
        found = wrk(url, case, clients, seconds, "/v1/rerank")
        after = cpu_by_part(os.getsid(0))
        spent = {part: used - before[part] for part, used in after.items()}
        done = max(1, int(found["requests"]))
        rate = found["requests"] / found["seconds"]
        row = f"| {ingresses} | {replicas} | {case} | {clients} | {rate:.1f} "
        row += f"| {found['p50_ms']:.1f} | {found['p99_ms']:.1f} |"
        for part in dict.fromkeys(PARTS.values()):
            row += f" {1000 * spent[part] / done:.2f} |"
        print(row, flush=True)


async def hit_rate(handle: Any, sticky: bool) -> float:
    """Return the share of tokens from the memory tier if every pair is requested four times."""
    queries = [f"question {i}" for i in range(40)] * 4
    random.Random(0).shuffle(queries)
    documents = [f"document {i}" for i in range(10)]
    cached = total = 0
    for query in queries:
        caller = handle.options(session_id=query) if sticky else handle
        result = await caller.rerank.remote(query, documents)
        cached += result.cached_tokens
        total += result.tokens
    return cached / total


def main() -> None:
    """Print Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--replicas",
        type=int,
        nargs="*",
        default=(1, 4, 16, 64),
        help="numbers of model replicas (default: 1 4 16 64)",
    )
    parser.add_argument(
        "--ingresses",
        type=int,
        nargs="+",
        default=(1, 2),
        help="numbers of ingress replicas (default: 1 2)",
    )
    parser.add_argument("--seconds", type=float, default=5, help="per run (default: %(default)g)")
    parser.add_argument(
        "--routers",
        nargs="*",
        choices=ROUTERS,
        default=list(ROUTERS),
        help="routers to measure hit rates with (default: all)",
    )
    options = parser.parse_args()
    if os.getsid(0) != os.getpid():
        # A new session, so that other clusters on this machine are not counted.
        os.setsid()
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder:
        os.environ.update(RAY_TMPDIR=folder, RAY_USAGE_STATS_ENABLED="0")
        os.environ["RAY_AUTH_MODE"] = "disabled"
        from ray import serve

        parts = [f" {part} CPU ms/request |" for part in dict.fromkeys(PARTS.values())]
        print(HEAD + "".join(parts) + "\n" + "|---" * (7 + len(parts)) + "|", flush=True)
        port = free_port()
        with cluster(max(options.replicas, default=1), port):
            for replicas in options.replicas:
                for ingresses in options.ingresses:
                    deploy(replicas, ingresses)
                    measure(f"http://127.0.0.1:{port}", ingresses, replicas, options.seconds)
            for name in options.routers:
                router = ROUTERS[name]
                # A handle keeps the router of the application it was created for.
                serve.delete("rerank")
                handle = deploy(1, 4, router)
                rate = asyncio.run(hit_rate(handle, sticky=router is not None))
                print(f"4 ingress replicas, {name} router: {rate:.0%} memory hits", flush=True)


if __name__ == "__main__":
    main()
