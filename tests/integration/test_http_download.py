"""Downloads: whole or an error that says what helps, and never to an address that is not public."""

from __future__ import annotations

import asyncio
import contextlib
import io
import socket

import pytest

from tests.support.patience import AT_LAST
from worker.http.address_policy import refusal
from worker.http.client import FetchError, Http

BODY = bytes(range(256)) * 1000
OK = b"HTTP/1.1 200 OK\r\nContent-Type: image/png; charset=x\r\nContent-Length: %d\r\n\r\n" % len(BODY)


@contextlib.asynccontextmanager
async def cdn(*answers, hang=False):
    """Answers one request after the other, and keeps what was asked."""
    asked, left, tasks = [], list(answers), set()

    async def serve(reader, writer):
        tasks.add(asyncio.current_task())
        try:
            asked.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(left.pop(0))
            await writer.drain()
            await asyncio.sleep(AT_LAST if hang else 0)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
async def http():
    made = Http(allow_private_hosts=True)
    yield made
    await made.close()


@pytest.fixture
async def wary():
    made = Http(allow_private_hosts=False)
    yield made
    await made.close()


async def failure(http, url, *, limit=10**7, timeout=AT_LAST):  # noqa: ASYNC109  handed on
    with pytest.raises(FetchError) as caught:
        await http.download(url, io.BytesIO(), limit=limit, timeout=timeout)
    return caught.value


async def test_a_download_comes_whole_and_the_signed_link_is_left_as_it_is(http):
    into = io.BytesIO()
    path = "/images/a%2Fb%20c.png?sig=a%2Bb/c==&X=%7e~+é|"
    async with cdn(OK + BODY) as (url, asked):
        done = await http.download(url + path, into, limit=10**6, timeout=AT_LAST)

    assert into.getvalue() == BODY
    assert (done.size, done.content_type) == (len(BODY), "image/png")
    line, _, headers = asked[0].partition(b"\r\n")
    assert line == b"GET /images/a%2Fb%20c.png?sig=a%2Bb/c==&X=%7e~+%C3%A9| HTTP/1.1"
    assert b"authorization" not in headers.lower()


async def test_a_link_cannot_smuggle_a_second_request(http):
    async with cdn(OK + BODY) as (url, asked):
        await http.download(url + "/a b\r\nX-Evil: 1\r\n\r\n", io.BytesIO(), limit=10**6, timeout=AT_LAST)

    assert asked[0].startswith(b"GET /a%20b%0D%0AX-Evil:%201 HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("status", "code", "retryable", "dead"),
    [
        (400, "link_dead", False, True),
        (403, "link_dead", False, True),
        (404, "link_dead", False, True),
        (410, "link_dead", False, True),
        (429, "download_failed", True, False),
        (500, "download_failed", True, False),
        (503, "download_failed", True, False),
        (418, "download_failed", False, False),
        (206, "download_failed", True, False),
    ],
)
async def test_a_status_says_what_helps(http, status, code, retryable, dead):
    async with cdn(b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % status) as (url, _):
        error = await failure(http, url + "/x?sig=secret")

    assert (error.code, error.retryable, error.dead_link) == (code, retryable, dead)
    assert "secret" not in error.message


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (OK + BODY[:-1], "truncated"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n", "truncated"),
        (b"", "download_failed"),
        (b"nonsense\r\n\r\n", "download_failed"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000 + b"\r\n\r\n", "download_failed"),
    ],
)
async def test_a_body_that_is_not_whole_is_never_a_success(http, answer, code):
    async with cdn(answer) as (url, _):
        error = await failure(http, url)

    assert (error.code, error.retryable) == (code, True)


async def test_size_is_bounded_said_or_not(http):
    said = b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n"
    silent = b"HTTP/1.1 200 OK\r\n\r\n" + BODY
    async with cdn(said, silent) as (url, _):
        errors = [await failure(http, url, limit=1000) for _ in range(2)]

    assert [error.code for error in errors] == ["too_large", "too_large"]


async def test_the_whole_body_is_bounded_in_time(http):
    async with cdn(OK + BODY[:1000], hang=True) as (url, _):
        error = await failure(http, url, timeout=0.2)  # real time: the rest never comes

    assert (error.code, error.retryable) == ("download_timeout", True)


async def test_redirects_are_followed_five_times(http):
    def to(where):
        return b"HTTP/1.1 302 Found\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n" % where

    async with cdn(*[to(b"../b/%2Fc?sig=a%2Bb")] * 5, OK + BODY, *[to(b"/again")] * 6) as (url, asked):
        done = await http.download(url + "/a/x", io.BytesIO(), limit=10**6, timeout=AT_LAST)
        assert done.size == len(BODY)
        assert asked[5].startswith(b"GET /b/%2Fc?sig=a%2Bb HTTP/1.1")
        assert (await failure(http, url)).code == "too_many_redirects"


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.255.0.3", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254"),
        *("100.64.0.1", "100.100.100.200", "168.63.129.16", "192.0.0.192", "224.0.0.1", "255.255.255.255", "240.0.0.1"),
        *("198.18.0.1", "192.0.2.1", "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1"),
        *("fec0::1", "2001:db8::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "2002:7f00:1::"),
        *("64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::a00:1", "2001:0:7f00:1::1", "not-an-address"),
    ],
)
def test_addresses_that_are_refused(address):
    assert refusal(address)


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "64:ff9b::8.8.8.8", "::ffff:8.8.8.8"]
)
def test_public_addresses_are_not_refused(address):
    assert refusal(address) is None


LOOPBACKS = ["127.0.0.1", "localhost", "0x7f.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "user@127.0.0.1"]
ODD = ["127.1", "2130706433", "0177.0.0.1", "127.0.0.1.", "127。0。0。1"]


@pytest.mark.parametrize("host", [*LOOPBACKS, *ODD, "0.0.0.0", "169.254.169.254"])
async def test_a_private_address_is_refused_in_every_spelling_before_a_connection_is_made(wary, host):
    async with cdn(OK + BODY) as (url, asked):
        port = url.rsplit(":", 1)[1]
        error = await failure(wary, f"http://{host}:{port}/x")

    assert error.code == "forbidden_address" or (host in ODD and error.code == "bad_link")
    assert not error.retryable
    assert not asked


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://x/y", "data:,x", "gopher://x", "", "http://", "//x/y", "http://[::1"]
)
async def test_only_http_links_are_fetched(wary, url):
    assert (await failure(wary, url)).code == "bad_link"


async def test_a_redirect_is_checked_like_a_link():
    async with cdn(OK + BODY) as (inside, asked):
        target = inside.replace("127.0.0.1", "localhost").encode()
        answers = [
            b"HTTP/1.1 302 Found\r\nLocation: %s/x\r\nContent-Length: 0\r\n\r\n" % to for to in (target, b"file:")
        ]
        async with cdn(*answers) as (outside, _):
            http = Http(allow_private_hosts=False, trusted_hosts=[outside])
            codes = [(await failure(http, outside)).code for _ in answers]
            await http.close()

    assert codes == ["forbidden_address", "bad_link"]
    assert not asked


async def test_a_host_the_user_has_set_may_be_private_and_its_neighbours_may_not():
    async with cdn(OK + BODY, OK + BODY) as (url, _), cdn(OK + BODY) as (other, _):
        http = Http(allow_private_hosts=False, trusted_hosts=[url + "/api"])
        done = await http.download(url + "/x", io.BytesIO(), limit=10**6, timeout=AT_LAST)
        error = await failure(http, other)
        await http.close()

    assert done.size == len(BODY)
    assert error.code == "forbidden_address"


async def test_a_name_that_leads_to_a_private_address_is_refused(wary, monkeypatch):
    async def resolve(*_, **__):
        address = {
            "hostname": "cdn.example",
            "host": "10.0.0.7",
            "port": 80,
            "family": socket.AF_INET,
            "proto": 0,
            "flags": 0,
        }
        return [address]

    monkeypatch.setattr("aiohttp.resolver.ThreadedResolver.resolve", resolve)

    error = await failure(wary, "http://cdn.example/x")

    assert (error.code, error.message) == ("forbidden_address", "10.0.0.7 is a private address")


async def test_a_reference_is_fetched_with_its_type_and_a_plain_name(http):
    png = b"\x89PNG\r\n\x1a\n...."
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % len(png)
    async with cdn(head + png, b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n") as (url, _):
        file = await http.fetch_reference(url + "/l%C3%A4mp%20%22x.jpg?sig=1")
        with pytest.raises(FetchError) as caught:
            await http.fetch_reference(url + "/gone")

    assert (file.content, file.content_type, file.filename) == (png, "image/png", "l-mp--x.png")
    assert caught.value.code == "reference_unreachable"
    assert "404" in caught.value.message


async def test_a_cdn_is_asked_for_a_picture_by_an_agent_that_the_settings_name():
    http = Http(allow_private_hosts=True, user_agent="Mozilla/5.0 (compatible; my shop)")
    try:
        async with cdn(OK + BODY) as (url, asked):
            await http.download(url, io.BytesIO(), limit=10**6, timeout=AT_LAST)
    finally:
        await http.close()

    told = asked[0].decode().lower()
    assert "accept: image/png,image/jpeg,image/webp;q=0.9,*/*;q=0.1\r\n" in told
    assert "user-agent: mozilla/5.0 (compatible; my shop)\r\n" in told


async def test_by_itself_it_names_itself_in_the_form_that_browser_checks_let_through(http):
    async with cdn(OK + BODY) as (url, asked):
        await http.download(url, io.BytesIO(), limit=10**6, timeout=AT_LAST)

    assert b"User-Agent: Mozilla/5.0 (compatible; lightfast)" in asked[0]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"error code: 1010", 'answered 403: "error code: 1010"'),
        (b"<html><head><style>p{}</style><title>Just a moment...</title>", 'answered 403: "Just a moment..."'),
        (b"\x00\x01\x02", "answered 403"),
        (b"", "answered 403"),
    ],
)
async def test_a_refusal_is_told_with_its_first_words(http, body, said):
    async with cdn(b"HTTP/1.1 403 No\r\nContent-Length: %d\r\n\r\n" % len(body) + body) as (url, _):
        error = await failure(http, url)

    assert (error.code, error.dead_link) == ("link_dead", True)
    assert error.message.endswith(said)
