"""The addresses that URLs of clients may lead to, checked on the very address connected to.

Without the check, anyone who can send a request could reach what only this machine can reach.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import httpcore

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Addresses of a host that are tried in turn.
MAX_TRIED = 4
# Look-ups that hang keep a thread until the resolver gives up, so they get threads of their own.
MAX_LOOKUPS = 8
# Not public, although Python's `is_global` says so, or not in all of its versions.
_RESERVED = tuple(
    ipaddress.ip_network(network)
    for network in (
        "192.0.0.0/24",  # protocol assignments; Oracle Cloud's metadata is among them
        "192.88.99.0/24",  # 6to4 relays
        "168.63.129.16/32",  # Azure's platform service
        "2001::/23",  # protocol assignments; Teredo is among them
        "3fff::/20",  # documentation
    )
)
_UNICAST = ipaddress.IPv6Network("2000::/3")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class AddressRefused(Exception):
    """A host has no address that may be connected to."""


def is_public(address: Address) -> bool:
    """Whether the address is on the public internet.

    An IPv6 address that carries an IPv4 address (mapped, NAT64, 6to4) is judged by that one.
    """
    if (carried := _carried(address)) is not None:
        return is_public(carried)
    if address.version == 6 and address not in _UNICAST:
        return False
    reserved = any(address in network for network in _RESERVED)
    return address.is_global and not address.is_multicast and not reserved


def _carried(address: Address) -> ipaddress.IPv4Address | None:
    if not isinstance(address, ipaddress.IPv6Address):
        return None
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour


def is_own(address: Address) -> bool:
    """Whether the address is one of this machine's own."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((str(address), 9))  # sends nothing, but chooses the local address
        except OSError:
            return False  # there is no route to it
        return ipaddress.ip_address(probe.getsockname()[0]) == address


class AllowedAddresses:
    """Public addresses, and those named by `private`: host names, addresses and networks."""

    def __init__(self, private: Iterable[str] = ()) -> None:
        self._names: set[str] = set()
        self._networks: list[Network] = []
        for entry in private:
            try:
                self._networks.append(ipaddress.ip_network(entry, strict=False))
            except ValueError:
                self._names.add(_name(entry))

    def allow(self, host: str, address: Address) -> bool:
        """Whether `address`, which `host` resolved to, may be connected to."""
        if _name(host) in self._names:
            return True
        judged = _carried(address) or address
        if any(judged in network for network in self._networks):
            return True
        return is_public(address) and not is_own(judged)


def _name(host: str) -> str:
    return host.lower().rstrip(".")


class CheckedConnections(httpcore.AsyncNetworkBackend):
    """Connects to allowed addresses only.

    A name is resolved once and the checked address is connected to, so that a name whose answer
    changes between the two leads nowhere else. TLS still verifies the name of the URL.
    """

    def __init__(self, allowed: AllowedAddresses) -> None:
        self._allowed = allowed
        self._lookups = ThreadPoolExecutor(MAX_LOOKUPS, thread_name_prefix="image-dns")
        self._tcp = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the base's signature
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first allowed address that accepts. Raises AddressRefused."""
        found = [a for a in await self._resolve(host, port) if self._allowed.allow(host, a)]
        if not found:
            raise AddressRefused("its host has no allowed address")
        failure: Exception | None = None
        for address in found[:MAX_TRIED]:
            try:
                return await self._tcp.connect_tcp(
                    str(address), port, timeout, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure or httpcore.ConnectError()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def close(self) -> None:
        """Stop the threads that look names up; one that hangs ends when its resolver gives up."""
        self._lookups.shutdown(wait=False, cancel_futures=True)

    async def _resolve(self, host: str, port: int) -> Sequence[Address]:
        look_up = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._lookups, look_up)
        except (OSError, UnicodeError) as error:
            raise AddressRefused(f"its host cannot be resolved ({error})") from None
        return list(dict.fromkeys(ipaddress.ip_address(entry[4][0]) for entry in found))
