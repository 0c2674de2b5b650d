"""How aiohttp is given a proxy, and what a link behind one may lead to."""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import os
import socket
import ssl
from urllib.parse import unquote

import aiohttp
import yarl

from jobs.settings.proxies import Proxy
from worker.http.address_policy import refusal

#: Status with which a proxy asks for a password. No provider answers so.
PROXY_AUTHENTICATION = 407
#: Seconds a name may take to be looked up here. Behind a proxy many machines cannot look up any from outside.
LOOK_UP = 3.0
#: Names of which the answers are kept, for the life of a process that looks up the same few CDNs.
KEPT = 1024


class ProxyRefusedError(aiohttp.ClientError):
    """A proxy that asks for a password before it passes a request on: nothing has reached the server."""


@functools.lru_cache
def url_of(proxy: Proxy) -> yarl.URL:
    """The proxy with its login, from which aiohttp makes a header."""
    password = proxy.password.get_secret_value() if proxy.password else None
    return yarl.URL.build(
        scheme=proxy.scheme, host=proxy.host, port=proxy.port, user=proxy.username or None, password=password
    )


def through(proxy: Proxy | None) -> str:
    """What is said after a problem that was met on the way through a proxy."""
    return f" (through the proxy {proxy})" if proxy else ""


def trusted_authorities() -> ssl.SSLContext | bool:
    """Those of SSL_CERT_FILE, such as the CA of a proxy that opens TLS; else the system's.

    aiohttp has read the variable when it was imported, which is before a .env is read.
    """
    if not any(os.environ.get(name) for name in ("SSL_CERT_FILE", "SSL_CERT_DIR")):
        return True
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


class Lookups:
    """What names lead to, as far as it can be known here: behind a proxy it is the proxy that connects."""

    def __init__(self) -> None:
        self._found: dict[str, list[str]] = {}

    async def refusal(self, host: str) -> str | None:
        """Why a link to this host is not to be followed; None when it may be, or nobody here knows the name."""
        name = unquote(host).rstrip(".")
        if name not in self._found:
            if len(self._found) >= KEPT:
                self._found.clear()
            self._found[name] = _numeric(name) or await _looked_up(name)
        return next(filter(None, map(refusal, self._found[name])), None)


def _numeric(host: str) -> list[str]:
    """The address that a host is written as, in any spelling that C understands: 127.1, 0x7f000001."""
    try:
        return [str(ipaddress.ip_address(host.partition("%")[0]))]
    except ValueError:
        pass
    try:
        return [socket.inet_ntoa(socket.inet_aton(host))]
    except (OSError, UnicodeError):
        return []


async def _looked_up(host: str) -> list[str]:
    try:
        async with asyncio.timeout(LOOK_UP):
            found = await aiohttp.ThreadedResolver().resolve(host, family=socket.AF_UNSPEC)
    except (OSError, UnicodeError, TimeoutError):
        return []
    return [each["host"] for each in found]
