"""A cluster of two nodes, one of which goes down under load."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tests.e2e.faults.load import Load

if TYPE_CHECKING:
    from tests.e2e.faults.driver import Service


def node_removed(start: Callable[..., Service]) -> dict[str, Any]:
    """Two nodes with a model replica and an ingress each; one node goes down."""
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "object_store_memory": 100 * 2**20},
    )
    worker = cluster.add_node(num_cpus=1, object_store_memory=100 * 2**20)
    ray.init(address=cluster.address, logging_level="WARNING")
    try:
        # One CPU each, so that the two replicas do not fit on one node.
        service = start(num_cpus=1, ingress_replicas=2, worker_timeout_s=60)
        service.deploy()
        # Requests in the ingress on the lost node are unknown to all others.
        with Load(service.url, retries=8) as load:
            load.wait(100)
            cluster.remove_node(worker, allow_graceful=False)
            load.wait(400)
            cluster.add_node(num_cpus=1, object_store_memory=100 * 2**20)
            load.wait(100)
        return load.seen.as_json()
    finally:
        from ray import serve

        serve.shutdown()
        ray.shutdown()
        cluster.shutdown()
