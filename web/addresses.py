"""By which address a browser came: the Host header, and what proxies add.

A page that another site's name leads to (DNS rebinding) would be that site's own for a browser, so pages answer only
to names that somebody chose for them.
"""

from __future__ import annotations

import ipaddress
import platform
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
#: What proxies add. Whoever comes through one is not at this machine, whatever his address says.
FORWARDING = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip")


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """The names that pages answer to."""

    names: frozenset[str] = LOOPBACK_NAMES
    any_number: bool = False  # every IP address: no site's name leads to one
    is_loopback: bool = True  # the listener is bound to this machine alone

    def takes(self, request: HTTPConnection) -> bool:
        """Whether pages answer to the host that a browser asked for."""
        host = host_of(request.headers.get("host", ""))
        return host in self.names or (self.any_number and _is_number(host))


def addresses_of(bound: str, names: Iterable[str] = (), public: Iterable[str] = ()) -> Addresses:
    """The names of a listener: those that were given, those of `public` URLs, and what it is bound to."""
    is_loopback = bound in LOOPBACK_NAMES
    given = {host_of(name) for name in names} | {host_of(urlsplit(url).netloc) for url in public}
    own = set() if is_loopback else {bound.lower(), platform.node().lower()}
    return Addresses(
        names=frozenset(LOOPBACK_NAMES | given | own) - {""}, any_number=not is_loopback, is_loopback=is_loopback
    )


def is_at_this_machine(request: HTTPConnection) -> bool:
    """Whether a request came straight from this machine, by its own name."""
    client = request.client.host if request.client else ""
    return (
        host_of(request.headers.get("host", "")) in LOOPBACK_NAMES
        and (client in LOOPBACK_NAMES or client == "::ffff:127.0.0.1")
        and not any(name in request.headers for name in FORWARDING)
    )


def host_of(header: str) -> str:
    """The host of a Host header, in small letters, without its port; "" where it is none."""
    try:
        return (urlsplit(f"//{header}").hostname or "") if not set(header) & set("/?#@\\ ") else ""
    except ValueError:
        return ""


def same_origin(request: HTTPConnection, allowed_sites: Collection[str] = ("same-origin",)) -> bool:
    """Whether a form was sent by a page of ours, as far as the browser says.

    Browsers say it by `Sec-Fetch-Site`; older ones, and those on plain HTTP, by `Origin`. "null" says nothing.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site in allowed_sites
    origin = request.headers.get("origin")
    if origin in (None, "null"):
        return True
    return origin == f"{request.url.scheme}://{request.headers.get('host', '')}"


def _is_number(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
