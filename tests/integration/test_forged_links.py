"""Addresses that an answer or a manifest may name and nobody may be made to fetch: docs/reference/fetching.md.

Each is tried for real: a server listens on the loopback addresses of this machine, and hears of none.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gzip
import io
import ipaddress
import re
import socket
import tracemalloc

import pytest
from pydantic import SecretStr

from jobs.errors import BadInput
from jobs.settings.proxies import read_proxies
from providers.dialects.reading import own_path
from providers.types import Call
from tests.support import ROOT
from tests.support.patience import AT_LAST
from worker.http.client import FetchError, Http
from worker.registration.manifest_sources import local_source

PAGE = ROOT / "docs" / "reference" / "fetching.md"

NO_SUCH_NAME = "the host's name could not be looked up"
#: What is tried, as the page shows it, and why it is refused. `:PORT` is a server of this machine.
TABLE = [
    # IPv4, in every spelling
    ("http://127.0.0.1:PORT/", "127.0.0.1 is a loopback address"),
    ("http://127.255.0.3:PORT/", "127.255.0.3 is a loopback address"),
    ("http://127.1:PORT/", "127.1 - is not a canonical IPv4 address"),
    ("http://2130706433:PORT/", "2130706433 - is not a canonical IPv4 address"),
    ("http://0x7f000001:PORT/", "127.0.0.1 is a loopback address"),
    ("http://0x7f.0.0.1:PORT/", "127.0.0.1 is a loopback address"),
    ("http://0177.0.0.1:PORT/", "0177.0.0.1 - is not a canonical IPv4 address"),
    ("http://017700000001:PORT/", "017700000001 - is not a canonical IPv4 address"),
    ("http://127.0.0.1.:PORT/", "127.0.0.1. - is not a canonical IPv4 address"),
    ("http://①②⑦.⓪.⓪.①:PORT/", "127.0.0.1 is a loopback address"),
    ("http://127。0。0。1:PORT/", "127.0.0.1 is a loopback address"),
    ("http://127%2e0%2e0%2e1:PORT/", NO_SUCH_NAME),
    ("http://0:PORT/", "0 - is not a canonical IPv4 address"),
    ("http://10.1.2.3/", "10.1.2.3 is a private address"),
    ("http://172.16.0.1/", "172.16.0.1 is a private address"),
    ("http://192.168.1.1/", "192.168.1.1 is a private address"),
    ("http://100.64.0.1/", "100.64.0.1 is not a public address"),
    ("http://169.254.7.7/", "169.254.7.7 is a link-local address"),
    ("http://198.18.0.1/", "198.18.0.1 is a private address"),
    ("http://192.0.2.1/", "192.0.2.1 is a private address"),
    ("http://192.88.99.1/", "192.88.99.1 is not a public address"),
    ("http://224.0.0.1/", "224.0.0.1 is a multicast address"),
    ("http://240.0.0.1/", "240.0.0.1 is a private address"),
    ("http://255.255.255.255/", "255.255.255.255 is a private address"),
    # Clouds' metadata, some at numbers that are public
    ("http://169.254.169.254/latest/meta-data/", "169.254.169.254 is a metadata address"),
    ("http://2852039166/", "2852039166 - is not a canonical IPv4 address"),
    ("http://100.100.100.200/", "100.100.100.200 is a metadata address"),
    ("http://168.63.129.16/", "168.63.129.16 is a metadata address"),
    ("http://192.0.0.192/", "192.0.0.192 is a metadata address"),
    ("http://[fd00:ec2::254]/", "fd00:ec2::254 is a metadata address"),
    # IPv6, and IPv4 inside it
    ("http://[::1]:PORT/", "::1 is a loopback address"),
    ("http://[::]:PORT/", ":: is an unspecified address"),
    ("http://[::1%25lo]:PORT/", "::1%25lo is a loopback address"),
    ("http://[fe80::1%25lo]:PORT/", "fe80::1%25lo is a link-local address"),
    ("http://[fc00::1]/", "fc00::1 is a private address"),
    ("http://[fec0::1]/", "fec0::1 is a private address"),
    ("http://[ff02::1]/", "ff02::1 is a multicast address"),
    ("http://[2001:db8::1]/", "2001:db8::1 is a private address"),
    ("http://[3fff::1]/", "3fff::1 is not a public address"),
    ("http://[::ffff:127.0.0.1]:PORT/", "a loopback address in disguise (127.0.0.1)"),
    ("http://[::ffff:7f00:1]:PORT/", "a loopback address in disguise (127.0.0.1)"),
    ("http://[::127.0.0.1]:PORT/", "a loopback address in disguise (127.0.0.1)"),
    ("http://[::ffff:169.254.169.254]/", "a metadata address in disguise (169.254.169.254)"),
    ("http://[::ffff:0:127.0.0.1]/", "a reserved address"),
    ("http://[64:ff9b::10.0.0.1]/", "a private address in disguise (10.0.0.1)"),
    ("http://[64:ff9b:1::10.0.0.1]/", "a private address in disguise (10.0.0.1)"),
    ("http://[2002:7f00:1::]/", "a loopback address in disguise (127.0.0.1)"),
    ("http://[2001:0:7f00:1::1]/", "a loopback address in disguise (127.0.0.1)"),
    ("http://[2606:4700::5efe:10.0.0.1]/", "a private address in disguise (10.0.0.1)"),
    # Names
    ("http://localhost:PORT/", "a loopback address"),
    ("http://LocalHost.:PORT/", "a loopback address"),
    ("http://ⓛocalhost:PORT/", "a loopback address"),
    ("http://inside.test:PORT/", "10.0.0.7 is a private address"),
    ("http://mapped.test:PORT/", "a loopback address in disguise (127.0.0.1)"),
    # Links that one reader reads so and another otherwise
    ("http://cdn.test@127.0.0.1:PORT/", "127.0.0.1 is a loopback address"),
    ("http://cdn.test:80@127.0.0.1:PORT/", "127.0.0.1 is a loopback address"),
    ("http://127.0.0.1:PORT#@cdn.test/", "127.0.0.1 is a loopback address"),
    ("http://127.0.0.1:PORT\\@cdn.test/", "not a link"),
    ("http:///127.0.0.1:PORT/", "not an http(s) link"),
    ("http:127.0.0.1:PORT/", "not an http(s) link"),
    ("//127.0.0.1:PORT/", "not an http(s) link"),
    # Other schemes
    ("file:///etc/passwd", "not an http(s) link: file"),
    ("ftp://127.0.0.1/x", "not an http(s) link: ftp"),
    ("gopher://127.0.0.1:PORT/_X", "not an http(s) link: gopher"),
    ("data:image/png;base64,iVBOR", "not an http(s) link: data"),
    ("unix:///var/run/docker.sock", "not an http(s) link: unix"),
    ("jar:http://127.0.0.1:PORT/!x", "not an http(s) link: jar"),
]

#: A public address; `internet` leads what is sent there to a server of this machine.
PUBLIC = "93.184.216.34"


class Names:
    """A name server: each question for a name takes the next of its answers; the last one stays."""

    def __init__(self, **answers):
        self.answers = {f"{name}.test": list(found) for name, found in answers.items()}
        self.asked = []

    async def resolve(self, _, host, port=0, *args, **kwargs):
        self.asked.append(host)
        known = self.answers.get(host)
        if known is None and (host.rstrip(".") == "localhost" or host.startswith("0x")):
            return await self.real(_, host.rstrip("."), port, *args, **kwargs)
        if known is None:
            raise OSError(None, "no such host")
        found = known.pop(0) if len(known) > 1 else known[0]
        return [_record(host, address, port) for address in found.split()]


async def _resolve(resolver, made, host, *more, **named):
    return await made.resolve(resolver, host, *more, **named)


def _record(name, address, port):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return {"hostname": name, "host": address, "port": port, "family": family, "proto": 0, "flags": 0}


@pytest.fixture
def names(monkeypatch):
    """Names of this test; the machine's own resolver knows localhost, and reads numbers as C does."""
    from aiohttp.resolver import ThreadedResolver  # noqa: PLC0415  the seam

    made = Names(inside=["10.0.0.7"], mapped=["::ffff:127.0.0.1"], cdn=[PUBLIC])
    made.real = ThreadedResolver.resolve
    monkeypatch.setattr(ThreadedResolver, "resolve", functools.partialmethod(_resolve, made))
    return made


@pytest.fixture
def internet(monkeypatch):
    """What is sent to `PUBLIC` reaches this machine; everything else goes where it would."""
    connect = socket.socket.connect

    def reroute(self, address):
        return connect(self, ("127.0.0.1", address[1]) if address[0] == PUBLIC else address)

    monkeypatch.setattr(socket.socket, "connect", reroute)


@contextlib.asynccontextmanager
async def server(*answers):
    """Gives its answers one after the other; the last one stays. Keeps what it was asked."""
    asked, left, tasks = [], list(answers), set()

    async def serve(reader, writer):
        tasks.add(asyncio.current_task())
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            asked.append(await reader.readuntil(b"\r\n\r\n"))
            for part in left.pop(0) if len(left) > 1 else left[0]:
                writer.write(part)
                await writer.drain()
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    also = await asyncio.start_server(serve, "::1", port)
    try:
        yield port, asked
    finally:
        for each in (listening, also):
            each.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def says(status, *lines, body=b""):
    head = "".join(f"{line}\r\n" for line in lines)
    return [f"HTTP/1.1 {status} X\r\n{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body]


def leads_to(where, status=302):
    return says(status, f"Location: {where}")


SECRET = says(200, body=b"the inside")


@pytest.fixture
async def http():
    made = Http(allow_private_hosts=False)
    yield made
    await made.close()


async def refused(http, link, *, limit=10**7, timeout=AT_LAST):  # noqa: ASYNC109  handed on
    with pytest.raises(FetchError) as caught:
        await http.download(link, io.BytesIO(), limit=limit, timeout=timeout)
    return caught.value


def reason_fits(error, reason):
    if reason == NO_SUCH_NAME:  # it may be a name tomorrow
        return (error.code, error.retryable) == ("download_failed", True) and reason in error.message
    return error.code in ("bad_link", "forbidden_address") and not error.retryable and reason in error.message


@pytest.mark.parametrize(("link", "reason"), TABLE, ids=[link for link, _ in TABLE])
async def test_an_address_inside_is_refused_with_its_reason_and_nobody_hears_of_it(http, names, link, reason):
    async with server(SECRET) as (port, asked):
        error = await refused(http, link.replace("PORT", str(port)))

    assert reason_fits(error, reason), f"{error.code}: {error.message}"
    assert asked == []


@pytest.mark.parametrize(("link", "reason"), TABLE, ids=[link for link, _ in TABLE])
async def test_a_redirect_leads_to_no_such_address_either(http, names, internet, link, reason):
    async with server(SECRET) as (port, asked), server(leads_to(link.replace("PORT", str(port)))) as (outside, _):
        error = await refused(http, f"http://cdn.test:{outside}/a.png")

    assert error.code in ("bad_link", "forbidden_address", "download_failed", "too_many_redirects"), error.message
    assert asked == []


@pytest.mark.parametrize(("link", "reason"), TABLE, ids=[link for link, _ in TABLE])
async def test_no_such_address_is_handed_to_a_proxy(names, link, reason):
    async with server(SECRET) as (port, asked):
        proxies, _ = read_proxies(SecretStr(f"http://127.0.0.1:{port}"), {})
        http = Http(allow_private_hosts=False, proxies=proxies)
        error = await refused(http, link.replace("PORT", str(port)))
        await http.close()

    assert error.code in ("bad_link", "forbidden_address"), f"{reason}: {error.code}: {error.message}"
    assert asked == []


async def test_a_name_that_is_public_first_and_private_when_it_is_asked_again_is_refused(http, names, internet):
    names.answers["rebind.test"] = [PUBLIC, "127.0.0.1"]
    async with (
        server(SECRET) as (inside, asked),
        server(leads_to(f"http://rebind.test:{inside}/admin")) as (outside, heard),
    ):
        error = await refused(http, f"http://rebind.test:{outside}/a.png")

    assert names.asked == ["rebind.test", "rebind.test"], "the name was really asked for twice"
    assert len(heard) == 1, "its first answer was good"
    assert (error.code, error.message) == ("forbidden_address", "127.0.0.1 is a loopback address")
    assert asked == []


async def test_a_name_with_a_public_and_a_private_address_leads_to_the_public_one_only(http, names, internet):
    names.answers["both.test"] = [f"10.0.0.7 127.0.0.1 {PUBLIC}"]
    async with server(says(200, body=b"public")) as (port, asked):
        into = io.BytesIO()
        await http.download(f"http://both.test:{port}/", into, limit=100, timeout=AT_LAST)

    assert into.getvalue() == b"public"
    assert len(asked) == 1


async def test_a_manifest_and_a_reference_are_guarded_alike(http, names, internet):
    async with server(SECRET) as (port, asked), server(leads_to(f"http://localhost:{port}/x")) as (outside, _):
        with pytest.raises(FetchError) as reference:
            await http.fetch_reference(f"http://cdn.test:{outside}/a.png")
        for link in (f"http://cdn.test:{outside}/m.csv", f"http://127.0.0.1:{port}/m.csv"):
            with pytest.raises(BadInput, match=r"loopback address. LIGHTFAST_ALLOW_PRIVATE_HOSTS=1"):
                await asyncio.to_thread(_take, link)

    assert reference.value.code == "reference_unreachable"
    assert "loopback" in reference.value.message
    assert asked == []


def _take(link):
    with local_source(link):
        pass


# -- the key -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_the_key_follows_no_redirect(http, status):
    call = Call(method="GET", path="/v1/tasks/1")
    async with (
        server(SECRET) as (elsewhere, asked),
        server(leads_to(f"http://127.0.0.1:{elsewhere}/", status)) as (port, heard),
    ):
        base = f"http://127.0.0.1:{port}"
        exchange = await http.get(
            call, base_url=base, key=SecretStr("sk-secret-key"), key_header="Authorization", timeout=AT_LAST
        )

    assert b"sk-secret-key" in heard[0]
    assert exchange.response.status == status
    assert asked == []


@pytest.mark.parametrize(
    "link",
    [
        "http://api.test/t/1",  # another scheme
        "https://api.test:8443/t/1",
        "https://api.test.evil.test/t/1",
        "https://evil.test/api.test/t/1",
        "https://api.test@evil.test/t/1",
        "https://key@api.test/t/1",
        "//evil.test/t/1",
        "https://api.test\\@evil.test/t/1",
        "https://api.test/../t/1",
    ],
)
def test_the_key_goes_where_the_provider_points_only_on_its_own_scheme_host_and_port(link):
    assert own_path(link, "https://api.test") is None
    assert own_path("https://api.test:443/t/1", "https://api.test") == "/t/1"


async def test_a_download_never_carries_the_key_not_even_from_the_apis_own_host():
    async with server(says(200, body=b"x")) as (port, asked):
        base = f"http://127.0.0.1:{port}"
        http = Http(allow_private_hosts=False, trusted_hosts=[base])
        await http.get(
            Call(method="GET", path="/t"),
            base_url=base,
            key=SecretStr("sk-secret-key"),
            key_header="Authorization",
            timeout=AT_LAST,
        )
        await http.download(f"{base}/i.png", io.BytesIO(), limit=100, timeout=AT_LAST)
        await http.close()

    assert [b"sk-secret-key" in request for request in asked] == [True, False]


# -- bounds --------------------------------------------------------------------------------------------------------


def endless(part, head=b""):
    yield head
    while True:
        yield part


@pytest.mark.parametrize(
    "answer",
    [
        lambda: endless(b"X-More: yes\r\n" * 1000, b"HTTP/1.1 200 OK\r\n"),
        lambda: endless(b"y" * 65_536, b"HTTP/1.1 200 OK\r\nX-Long: "),
        lambda: endless(b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n" * 100),
        lambda: endless(b"z" * 65_536, b"HTTP/1.1 200 OK\r\n\r\n"),
        lambda: endless(b"5\r\nabcde\r\n" * 1000, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        lambda: endless(b"1;" + b"e" * 60_000, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ],
    ids=["headers", "one header", "informational answers", "body", "chunks", "a chunk's extension"],
)
async def test_an_answer_without_end_ends_and_takes_no_memory(answer):
    http = Http(allow_private_hosts=True)
    async with server(answer()) as (port, _):
        tracemalloc.start()
        error = await refused(http, f"http://127.0.0.1:{port}/", limit=1_000_000, timeout=1)  # real time: it has no end
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    await http.close()

    assert error.code in ("too_large", "download_failed", "truncated", "download_timeout")
    assert peak < 20_000_000


async def test_a_small_body_that_unpacks_to_gigabytes_is_stopped_at_the_limit():
    bomb = gzip.compress(gzip.compress(bytes(200_000_000), 1), 9)
    single = gzip.compress(bytes(200_000_000), 1)
    http = Http(allow_private_hosts=True)
    for body, encoding in ((single, "gzip"), (bomb, "gzip, gzip")):
        async with server(says(200, f"Content-Encoding: {encoding}", body=body)) as (port, _):
            tracemalloc.start()
            into = io.BytesIO()
            with contextlib.suppress(FetchError):
                await http.download(f"http://127.0.0.1:{port}/", into, limit=1_000_000, timeout=AT_LAST)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert into.tell() <= 1_000_000
        assert peak < 20_000_000
    await http.close()


# -- the page ------------------------------------------------------------------------------------------------------


def test_the_page_shows_what_is_tried_here_and_why_it_is_refused():
    shown = re.findall(r"^\| `` (\S+) `` \| (.+) \|$", PAGE.read_text(), flags=re.MULTILINE)

    assert shown == TABLE


def test_the_public_address_of_these_tests_is_one():
    assert ipaddress.ip_address(PUBLIC).is_global
