"""Why no answer came: the first cause that lies below a library's error, in words that say what to do."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterator
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

#: Characters of a cause that has no words here.
CAUSE_LIMIT = 200
OWN_CA = (
    "A certificate authority of your own is named by AWS_CA_BUNDLE or ca_bundle in the profile (s3://), or by "
    "SSL_CERT_FILE (all destinations)"
)


def cause_of(error: BaseException, url: str, *, proxy: str = "") -> str:
    """Why `url` gave no answer. `proxy`: the address of the proxy that was used; "": none was."""
    chain = list(_below(error))
    is_proxys = bool(proxy) and any("Proxy" in type(each).__name__ for each in chain)
    where = f"the proxy {_host_of_proxy(proxy)}" if is_proxys else host_of(url)
    after = _forgotten_proxy() if not proxy else "" if is_proxys else f" (through the proxy {_host_of_proxy(proxy)})"
    told = next(filter(None, (_known(each, where) for each in reversed(chain))), "")
    return f"{told or f'{where}: {_without_login(_last_words(chain), proxy)}'}{after}"


def _last_words(chain: list[BaseException]) -> str:
    return plain(str(chain[-1])) or type(chain[-1]).__name__


#: Signs in the text of a library that keeps no causes as objects (obstore), and what each means.
SIGNS = (
    (
        r"InvalidCertificate|certificate verify failed|UnknownIssuer",
        "the certificate of {where} is not trusted. " + OWN_CA,
    ),
    (r"InvalidMessage|InvalidContentType", "{where} does not speak TLS"),
    (r"dns error", "the name of {where} is not known here (DNS)"),
    (r"ConnectionRefused", "{where} refuses connections"),
    (r"kind: TimedOut|TimedOut|timed out", "{where} does not answer in time"),
    (r"TunnelUnsuccessful|TunnelProxyAuth", "{where} does not let it pass"),
    (r"ConnectionReset|IncompleteMessage|UnexpectedEof", "{where} closed the connection without an answer"),
)
#: The connection was not made: where there is a proxy, it is the proxy's.
CONNECTING = r"tcp connect error|dns error|Tunnel"


def cause_in_text(said: str) -> str:
    """The same of the text of an error, with all that its library wrote below it."""
    asked = re.search(r"https?://[^\s,]+", said)
    url = asked.group() if asked else ""
    proxy = getproxies().get(urlsplit(url).scheme) or getproxies().get("all", "") if url else ""
    proxy = "" if proxy and proxy_bypass(urlsplit(url).hostname or "") else proxy
    told = next((told for sign, told in SIGNS if re.search(sign, said)), "")
    if proxy and re.search(CONNECTING, said):
        return told.format(where=f"the proxy {_host_of_proxy(proxy)}")
    last_words = _without_login(plain(said.partition("\n")[0].rpartition(" - ")[2]), proxy)
    through = f" (through the proxy {_host_of_proxy(proxy)})" if proxy else ""
    return f"{told.format(where=host_of(url)) if told else last_words}{through}"


def host_of(url: str) -> str:
    """An address's host and port, without a user's name and password."""
    return urlsplit(url).netloc.rpartition("@")[2] or plain(url)


def _host_of_proxy(proxy: str) -> str:
    """The same of a proxy's address: it has no path, and its password may hold a slash that nobody has quoted."""
    return (proxy.partition("//")[2] or proxy).rpartition("@")[2].partition("/")[0] or plain(proxy)


def _without_login(text: str, proxy: str) -> str:
    """A library that cannot read a proxy's address quotes a part of it."""
    login = (proxy.partition("//")[2] or proxy).rpartition("@")[0]
    for word in sorted(filter(None, re.split("[:/]", login)), key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(word)}(?!\w)", "…", text)
    return text


def plain(text: str) -> str:
    """One line without addresses: a signed one is a secret, and a proxy's may hold a password."""
    return " ".join(re.sub(r"https?://\S+", "…", text).split())[:CAUSE_LIMIT].rstrip(".")


def _known(error: BaseException, where: str) -> str:
    refusal = re.search(r"Tunnel connection failed: (.*)", str(error)) if isinstance(error, OSError) else None
    match error:
        case ssl.SSLCertVerificationError():
            told = f"the certificate of {where} is not trusted: {error.verify_message or error.reason}. {OWN_CA}"
        case ssl.SSLError():
            told = f"{where} does not speak TLS as it should: {plain(error.reason or str(error))}"
        case socket.gaierror():
            told = f"the name of {where} is not known here (DNS: {error.strerror})"
        case ConnectionRefusedError():
            told = f"{where} refuses connections"
        case TimeoutError():
            told = f"{where} does not answer in time"
        case _:
            told = f"{where} does not let it pass: {refusal.group(1)}" if refusal else ""
    return told


def _below(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what lies below it, by whatever name its library keeps that."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        kept = getattr(error, "kwargs", None)
        inner = [kept.get("error") if isinstance(kept, dict) else None, getattr(error, "reason", None), *error.args]
        given = [each for each in inner if isinstance(each, BaseException)]
        error = given[0] if given else error.__cause__ or error.__context__


def _forgotten_proxy() -> str:
    """The AWS tools read no ALL_PROXY; who has only that would look long."""
    proxies = getproxies()
    if proxies.get("all") and not proxies.get("https"):
        return ". ALL_PROXY is not read for s3://, as by the aws cli: set HTTPS_PROXY"
    return ""
