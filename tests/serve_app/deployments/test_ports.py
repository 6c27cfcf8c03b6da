from __future__ import annotations

import socket

from serve_app.deployments.ports import RANGE, free_port, free_ports


def test_ports_are_free_different_and_outside_the_ephemeral_range() -> None:
    ports = free_ports(50)
    assert len(set(ports)) == 50
    assert set(ports) <= set(RANGE)
    sockets = [socket.create_server(("127.0.0.1", port)) for port in ports]
    for one in sockets:
        one.close()


def test_a_port_in_use_is_not_returned() -> None:
    with socket.create_server(("127.0.0.1", free_port("127.0.0.1"))) as taken:
        number = taken.getsockname()[1]
        assert number not in free_ports(len(RANGE), "127.0.0.1")
