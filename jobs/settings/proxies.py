"""Outgoing HTTP proxies: which one leads to an address, by the setting `proxy` or by HTTPS_PROXY and its kin. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr

_PORTS = {"http": 80, "https": 443}
_EXPECTED = "should be http://[USER:PASSWORD@]HOST:PORT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """One proxy. `named`: the setting or variable that it comes from."""

    named: str
    scheme: str  # how the proxy itself is spoken to: http or https
    host: str
    port: int
    username: str = ""
    password: SecretStr | None = None

    def __str__(self) -> str:
        """For people, without user and password."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxies:
    """The proxies of a process. Addresses of this machine are always reached without one."""

    http: Proxy | None = None  # for http:// addresses
    https: Proxy | None = None  # for https:// addresses
    direct: tuple[str, ...] = ()  # NO_PROXY: names with all below them, addresses, networks, any of them with a port
    ignores_all_proxy: bool = False  # ALL_PROXY is set, and nothing that is read

    def of(self, url: str) -> Proxy | None:
        """The proxy for this address; None: it is reached without one."""
        if self.http is None and self.https is None:
            return None
        parts = urlsplit(url)
        proxy = {"http": self.http, "https": self.https}.get(parts.scheme)
        host = (parts.hostname or "").rstrip(".")
        return None if proxy is None or _is_here(host) or self.is_direct(url) else proxy

    def is_direct(self, url: str) -> bool:
        """Whether NO_PROXY names this address."""
        parts = urlsplit(url)
        host, port = (parts.hostname or "").rstrip("."), parts.port or _PORTS.get(parts.scheme, 0)
        return any(_matches(entry, host, port) for entry in self.direct)


#: Everything is reached directly.
NO_PROXIES = Proxies()


def read_proxies(setting: SecretStr | None, environment: Mapping[str, str]) -> tuple[Proxies, list[str]]:
    """The proxies, and a sentence for each that cannot be used. The setting stands for both variables."""
    problems: list[str] = []
    found: dict[str, Proxy | None] = {}
    for scheme in _PORTS:
        named, value = f"{scheme.upper()}_PROXY", _either(environment, f"{scheme}_proxy")
        if setting is not None:
            named, value = "proxy", setting.get_secret_value()
        try:
            found[scheme] = _read(named, value) if value else None
        except ValueError as wrong:
            problem = f"{named}: its value (not shown): {wrong}"
            problems += [problem] if problem not in problems else []
    direct = tuple(re.split(r"[,\s]+", _either(environment, "no_proxy").strip().lower()))
    ignores = bool(_either(environment, "all_proxy")) and not any(found.values())
    return Proxies(direct=tuple(filter(None, direct)), ignores_all_proxy=ignores, **found), problems


def _either(environment: Mapping[str, str], name: str) -> str:
    """In small letters, which wins, as with curl; or in capitals."""
    return environment.get(name) or environment.get(name.upper(), "")


def _read(named: str, value: str) -> Proxy:
    text = value.strip()
    scheme, has_scheme, rest = text.partition("://")
    if scheme.lower().startswith("socks"):
        raise ValueError("SOCKS proxies are not supported; an HTTP proxy is needed: http://HOST:PORT")
    login, _, place = (rest if has_scheme else text).rpartition("@")
    try:
        parts = urlsplit(f"//{place}")
        port, host = parts.port, parts.hostname
    except ValueError:  # a port that is no number, a bracket that is not closed
        raise ValueError(_EXPECTED) from None
    scheme = scheme.lower() if has_scheme else "http"
    if scheme not in _PORTS or not host or parts.path.strip("/") or parts.query:
        raise ValueError(_EXPECTED)
    user, _, password = login.partition(":")
    return Proxy(
        named=named,
        scheme=scheme,
        host=host,
        port=port or _PORTS[scheme],
        username=unquote(user),
        password=SecretStr(unquote(password)) if password else None,
    )


def _is_here(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    address = _address(host)
    return address is not None and address.is_loopback


def _matches(entry: str, host: str, port: int) -> bool:
    """Whether an entry of NO_PROXY speaks of this host: *, name, .name, *.name, address, network, or one with :PORT."""
    if entry == "*":
        return True
    address = _address(host)
    for name, only in _spellings(entry):
        if only is not None and only != port:
            continue
        if address is not None and _holds(name, address):
            return True
        name = name.removeprefix("*").removeprefix(".")  # noqa: PLW2901  the same entry, without its wildcard
        if address is None and name and (host == name or host.endswith(f".{name}")):
            return True
    return False


def _spellings(entry: str) -> Iterator[tuple[str, int | None]]:
    yield entry.strip("[]"), None
    name, _, port = entry.rpartition(":")
    if name and port.isdecimal():
        yield name.strip("[]"), int(port)


def _holds(network: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    try:
        return address in ipaddress.ip_network(network, strict=False)
    except (ValueError, TypeError):
        return False


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None
