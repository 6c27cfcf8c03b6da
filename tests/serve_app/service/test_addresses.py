"""Which addresses are public."""

from __future__ import annotations

import ipaddress

import pytest

from serve_app.service import addresses
from serve_app.service.addresses import AllowedAddresses, is_own, is_public


@pytest.mark.parametrize(
    "address",
    [
        "1.1.1.1",
        "8.8.8.8",
        "172.32.0.1",
        "2606:4700:4700::1111",
        "2a00:1450:4001::1",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
        "2002:808:808::1",
    ],
)
def test_public_addresses(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "100.64.0.1",
        "100.100.100.200",
        "127.0.0.1",
        "127.8.8.8",
        "168.63.129.16",
        "169.254.169.254",
        "172.16.0.1",
        "192.0.0.192",
        "192.88.99.1",
        "192.168.0.1",
        "198.18.0.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.250",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::10.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::a00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",
        "2001:db8::1",
        "2002:a00:1::1",
        "2002:7f00:1::",
        "3fff::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fe80::1%2",
        "fec0::1",
        "ff02::1",
    ],
)
def test_other_addresses(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


def test_names_addresses_and_networks_are_allowed() -> None:
    allowed = AllowedAddresses(["images.internal", "10.1.0.0/16", "fd00::1"])
    for host, address, expected in [
        ("images.internal", "192.168.0.1", True),
        ("Images.Internal.", "192.168.0.1", True),
        ("other.internal", "192.168.0.1", False),
        ("any", "10.1.2.3", True),
        ("any", "::ffff:10.1.2.3", True),
        ("any", "10.2.0.1", False),
        ("any", "fd00::1", True),
        ("any", "fd00::2", False),
        ("any", "8.8.8.8", True),
    ]:
        assert allowed.allow(host, ipaddress.ip_address(address)) is expected, (host, address)


def test_public_addresses_of_this_machine_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    own = ipaddress.ip_address("127.0.0.1")
    assert is_own(own)
    assert not is_own(ipaddress.ip_address("192.0.2.1"))
    monkeypatch.setattr(addresses, "is_own", lambda address: True)
    assert not AllowedAddresses().allow("any", ipaddress.ip_address("8.8.8.8"))
