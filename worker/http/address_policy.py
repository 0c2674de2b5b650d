"""Which addresses a link from outside may lead to: public ones. The table of reasons is the policy."""

from __future__ import annotations

import errno
import ipaddress
import socket
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

#: Special by use, though the registries call them public.
METADATA = frozenset(
    {
        ipaddress.ip_address("169.254.169.254"),  # AWS, GCP, Azure and most others
        ipaddress.ip_address("fd00:ec2::254"),  # AWS
        ipaddress.ip_address("100.100.100.200"),  # Alibaba
        ipaddress.ip_address("192.0.0.192"),  # Oracle
        ipaddress.ip_address("168.63.129.16"),  # Azure's wire server, a public number
    }
)
#: IPv4-mapped, and the two ranges of NAT64.
SPELLINGS = tuple(ipaddress.IPv6Network(net) for net in ("::ffff:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48"))
COMPATIBLE = ipaddress.IPv6Network("::/96")
#: All that is public in IPv6 so far; Python's own lists know some of the rest only by name.
GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
#: Nobody's: once relays of 6to4, and documentation that older lists do not know.
RELAYS = ipaddress.IPv4Network("192.88.99.0/24")
DOCUMENTATION = ipaddress.IPv6Network("3fff::/20")
#: The upper half of an interface id that ends in an IPv4 address (ISATAP), with and without the universal bit.
ISATAP = frozenset({0x00005EFE, 0x02005EFE})


def refusal(host: str) -> str | None:
    """Why a numeric address is not to be contacted ("10.0.0.1 is a private address"); None when it may be."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return f"{host} is not an address"
    kind = _kind(address)
    return f"{host} is {kind}" if kind else None


def _kind(address: Address) -> str | None:
    if address in METADATA:
        return "a metadata address"
    for inner in _carried(address):
        if kind := _kind(inner):
            return f"{kind} in disguise ({inner})"
    return None if _stands_for_another(address) else _own_kind(address)


def _own_kind(address: Address) -> str | None:
    kinds = {
        "an unspecified address": address.is_unspecified,
        "a loopback address": address.is_loopback,
        "a link-local address": address.is_link_local,
        "a multicast address": address.is_multicast,
        "a private address": address.is_private or getattr(address, "is_site_local", False),
        "a reserved address": address.is_reserved,
        "not a public address": not address.is_global or not _is_unicast(address),
    }
    return next((name for name, holds in kinds.items() if holds), None)


def _is_unicast(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv4Address):
        return address not in RELAYS
    return address in GLOBAL_UNICAST and address not in DOCUMENTATION


def _carried(address: Address) -> list[ipaddress.IPv4Address]:
    """IPv4 addresses that packets to this one end at."""
    if isinstance(address, ipaddress.IPv4Address):
        return []
    found = [address.sixtofour, *(address.teredo or ())]
    if _stands_for_another(address) or _is_isatap(address) or (address in COMPATIBLE and int(address) > 1):
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return [inner for inner in found if inner is not None]


def _stands_for_another(address: Address) -> bool:
    """An IPv6 spelling of an IPv4 address, public or not as that one is."""
    return isinstance(address, ipaddress.IPv6Address) and any(address in network for network in SPELLINGS)


def _is_isatap(address: ipaddress.IPv6Address) -> bool:
    return (int(address) >> 32) & 0xFFFFFFFF in ISATAP


# -- where sockets are made ----------------------------------------------------------------------------------------


@dataclass(slots=True)
class Gate:
    """What the connections of one request may lead to; `refused` holds the reasons."""

    open: bool
    refused: list[str] = field(default_factory=list)


#: The socket is made deep inside aiohttp, in tasks that inherit this context. Unset: public addresses only.
GATE: ContextVar[Gate] = ContextVar("gate")


class ForbiddenAddressError(OSError):
    """An address that must not be contacted; aiohttp expects an OSError where sockets are made."""


def checked_socket(info: tuple[Any, ...]) -> socket.socket:
    """Makes a socket to an address that may be contacted: here, since numeric hosts skip the resolver."""
    family, kind, proto, _, address = info
    gate = GATE.get(None) or Gate(open=False)
    if not gate.open and (reason := refusal(str(address[0]))):
        gate.refused.append(reason)
        raise ForbiddenAddressError(errno.EACCES, reason)
    return socket.socket(family=family, type=kind, proto=proto)
