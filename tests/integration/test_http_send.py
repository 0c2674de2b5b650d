"""Was it sent? A server that misbehaves at every stage of a submit, and what `Http.send` says of it."""

from __future__ import annotations

import asyncio
import errno
import gzip
import inspect
import socket
from email import message_from_bytes
from types import SimpleNamespace

import aiohttp
import aiohttp.http_exceptions
import httpx2
import pytest
from pydantic import SecretStr

from providers.registry import DIALECTS, PROVIDERS
from providers.types import Call, ReferenceFile, Route
from tests.support.patience import AT_LAST, soon
from tests.support.raw_server import BROKEN, OK, Server, answering, hangs, never_reads, reset, trickles
from tests.support.virtual_time import skip
from worker.http.client import File, Http
from worker.http.transport import SENT_FLAG, SentFlag, SessionTransport, describe, truthful

KEY = SecretStr("sk-very-secret")
SUBMIT = Call(method="POST", path="/v1/images/generations", body=b'{"prompt":"a heron lamp"}')
BIG = Call(method="POST", path="/v1/images/generations", body=b"x" * 20_000_000)
POLL = Call(method="GET", path="/v1/tasks/t1")
TIMEOUT = AT_LAST


@pytest.fixture
async def http():
    made = Http(allow_private_hosts=False)
    yield made
    await made.close()


async def send(http, url, call=SUBMIT, timeout=TIMEOUT):  # noqa: ASYNC109  handed on
    exchange = await http.send(call, base_url=url, key=KEY, key_header="Authorization", timeout=timeout)
    assert KEY.get_secret_value() not in repr(exchange)
    return exchange


async def send_in_vain(http, url, call=SUBMIT, *, until_seen=None):
    """Until its time is over, which is as soon as it has left, or something else has been seen."""
    sent_flag = SentFlag()
    sending = asyncio.create_task(
        http.send(call, base_url=url, key=KEY, key_header="Authorization", timeout=30.0, sent_flag=sent_flag)
    )
    await soon(until_seen or (lambda: sent_flag.sent))
    skip(30.5)
    return await sending


@pytest.mark.parametrize("call", [SUBMIT, BIG], ids=["small", "big"])
@pytest.mark.parametrize("behave", BROKEN.values(), ids=BROKEN.keys())
async def test_an_answer_that_cannot_be_read_leaves_the_outcome_unknown_and_is_never_repeated(http, behave, call):
    async with Server(behave) as server:
        exchange = await (send_in_vain if behave in SLOW else send)(http, server.url, call)

        assert exchange.response is None
        assert exchange.sent or not server.seen, "what the server has seen was sent"
        assert exchange.sent or "accept" in behave.__name__
        assert exchange.problem
        assert server.connections == 1
        assert server.posts <= 1


SLOW = (hangs, trickles, BROKEN["head, then hangs"])


async def test_a_server_that_never_reads_leaves_a_big_submit_unknown_in_time(http):
    async with Server(never_reads) as server:
        exchange = await send_in_vain(http, server.url, BIG)

        assert exchange.sent
        assert exchange.response is None


async def test_a_refused_connection_is_certainly_not_sent(http):
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]

    exchange = await send(http, f"http://127.0.0.1:{port}")

    assert not exchange.sent
    assert exchange.response is None


async def test_tls_to_a_plain_server_is_certainly_not_sent(http):
    async def plain(server, reader, writer):
        await reader.read(10)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with Server(plain) as server:
        exchange = await send(http, server.url.replace("http:", "https:"))

    assert not exchange.sent
    assert exchange.response is None


async def test_a_tls_handshake_that_hangs_is_certainly_not_sent(http):
    async with Server(never_reads) as server:
        url = server.url.replace("http:", "https:")
        exchange = await send_in_vain(http, url, until_seen=lambda: server.connections)

    assert not exchange.sent


@pytest.mark.parametrize(
    ("base_url", "path"),
    [
        ("ftp://127.0.0.1", "/x"),
        ("http://", "/x"),
        ("nonsense", "/x"),
        ("http://127.0.0.1:99999", "/x"),
        ("http://127.0.0.1:1", "@evil.example/x"),
        ("http://127.0.0.1:1", "x"),
    ],
)
async def test_what_cannot_be_addressed_is_certainly_not_sent(http, base_url, path):
    exchange = await send(http, base_url, Call(method="POST", path=path, body=b"{}"))

    assert not exchange.sent
    assert exchange.response is None


async def test_a_key_with_a_line_break_is_not_sent_and_not_shown(http):
    async with Server(answering(OK + b"\r\n")) as server:
        exchange = await http.send(
            SUBMIT, base_url=server.url, key=SecretStr("sk-x\r\nEvil: 1"), key_header="Authorization", timeout=TIMEOUT
        )

    assert not exchange.sent
    assert "sk-x" not in repr(exchange)
    assert not server.seen


@pytest.mark.parametrize("status", [200, 204, 301, 302, 303, 307, 308, 401, 408, 429, 500, 503])
async def test_any_status_is_an_answer_and_redirects_are_not_followed(http, status):
    answer = b"HTTP/1.1 %d Any\r\nLocation: /elsewhere\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n" % status
    async with Server(answering(answer)) as server:
        exchange = await send(http, server.url)

        assert exchange.response.status == status
        assert exchange.response.headers["retry-after"] == "7"
        assert exchange.problem is None
        assert (server.connections, server.posts) == (1, 1)


async def test_a_large_answer_and_a_packed_one_arrive_whole(http):
    body = b'{"b64_json":"' + b"A" * 10_000_000 + b'"}'
    packed = gzip.compress(body, 1)
    plain_answer = OK + b"Content-Length: %d\r\n\r\n" % len(body) + body
    packed_answer = OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed) + packed
    for answer in (plain_answer, packed_answer):
        async with Server(answering(answer)) as server:
            exchange = await send(http, server.url)

            assert exchange.response.body == body


async def test_an_answer_beyond_the_limit_is_unknown_and_its_start_is_kept(http, monkeypatch):
    monkeypatch.setattr("worker.http.transport.BODY_LIMIT", 1000)
    async with Server(answering(OK + b'Content-Length: 5000\r\n\r\n{"task_id":"t-1"' + b" " * 4984)) as server:
        exchange = await send(http, server.url)

    assert exchange.sent
    assert exchange.response is None
    assert exchange.partial.body.startswith(b'{"task_id":"t-1"')


async def test_what_came_of_a_broken_answer_is_kept(http):
    async with Server(BROKEN["answer cut short"]) as server:
        exchange = await send(http, server.url)

    assert exchange.partial.status == 200
    assert exchange.partial.body == b'{"code'


async def test_a_kept_connection_that_dies_under_a_submit_is_unknown_and_the_submit_is_not_repeated(http):
    async def second_dies(server, reader, writer):
        await server.whole(reader)
        writer.write(OK + b"Content-Length: 2\r\n\r\n{}")
        await server.whole(reader)
        reset(writer)

    async with Server(second_dies) as server:
        first = await send(http, server.url)
        second = await send(http, server.url)

        assert first.response.status == 200
        assert second.sent
        assert second.response is None
        assert (server.connections, server.posts) == (1, 2)


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_cache_on_the_way_does_not_answer_a_poll_with_what_it_heard_before(http, provider):
    """It keeps answers without a lifetime for as long as it likes, as RFC 9111 allows, unless it is asked not to."""
    kept = {}

    async def caching(server, reader, writer):
        while True:
            head = (await server.head(reader)).decode().lower()
            path = head.split()[1]
            if "cache-control: no-cache" not in head and path in kept:
                said = kept[path]
            else:
                said = kept[path] = str(len(server.answered)).encode()
            server.answered.append(said)
            writer.write(OK + b"Content-Length: 1\r\n\r\n" + said)
            await writer.drain()

    route = Route(provider=provider, model="", provider_model="m", pixels=None, max_n=1, price=None)
    poll = DIALECTS[provider].poll("t1", route, None)
    async with Server(caching) as server:
        server.answered = []
        for _ in range(2):
            assert (await send(http, server.url, poll)).response is not None

    assert server.answered == [b"0", b"1"]
    assert server.seen.lower().count(b"pragma: no-cache") == 2


async def test_a_submit_says_nothing_of_caches(http):
    async with Server(answering(OK + b"Content-Length: 2\r\n\r\n{}")) as server:
        await send(http, server.url)

    assert b"cache-control" not in server.seen.lower()


async def test_a_kept_connection_that_dies_under_a_poll_is_tried_again(http):
    async def second_dies(server, reader, writer):
        await server.whole(reader)
        writer.write(OK + b"Content-Length: 2\r\n\r\n{}")
        if server.connections == 1:
            await server.whole(reader)
            reset(writer)

    async with Server(second_dies) as server:
        for _ in range(2):
            exchange = await http.get(POLL, base_url=server.url, key=KEY, key_header="Authorization", timeout=TIMEOUT)
            assert exchange.response.status == 200

        assert (server.connections, server.gets) == (2, 3)


async def test_an_idle_connection_that_was_closed_meanwhile_is_not_used_for_a_submit(http):
    async def once(server, reader, writer):
        await server.whole(reader)
        writer.write(OK + b"Content-Length: 2\r\n\r\n{}")

    async with Server(once) as server:
        for _ in range(2):
            exchange = await send(http, server.url)
            await asyncio.gather(*server.tasks)  # closed, and our side has heard of it
            await asyncio.sleep(0.01)  # real time: if it has not heard, the next is refused or repeated
            assert exchange.response.status == 200

        assert server.connections == 2


async def test_a_word_before_the_answer_is_passed_over(http):
    said = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\n{}"
    async with Server(answering(said)) as server:
        assert (await send(http, server.url)).response.body == b"{}"


async def test_an_address_with_a_password_gives_it_as_it_always_did(http):
    call = Call(method="GET", path="/v1/tasks/t1")
    async with Server(answering(OK + b"Content-Length: 2\r\n\r\n{}")) as server:
        url = server.url.replace("//", "//user:word@")
        exchange = await http.get(call, base_url=url, key=KEY, key_header="x-api-key", timeout=TIMEOUT)

    assert exchange.response.status == 200
    assert b"authorization: basic dxnlcjp3b3jk" in server.seen.lower()


async def test_the_mark_tells_a_caller_that_cancels(http):
    async with Server(hangs) as server:
        sent_flag = SentFlag()
        task = asyncio.create_task(
            http.send(
                SUBMIT, base_url=server.url, key=KEY, key_header="Authorization", timeout=TIMEOUT, sent_flag=sent_flag
            )
        )
        await server.busy.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        assert sent_flag.sent


@pytest.mark.parametrize("call", [SUBMIT, BIG, POLL], ids=["body", "big body", "no body"])
async def test_the_mark_is_set_before_the_first_byte_leaves(call, monkeypatch):
    """A socket that records the sent flag at each write."""
    http = Http(allow_private_hosts=False)
    sent_flag, at_write = SentFlag(), []
    whole = asyncio.selector_events._SelectorSocketTransport.write
    monkeypatch.setattr(
        asyncio.selector_events._SelectorSocketTransport,
        "write",
        lambda self, c: (at_write.append(sent_flag.sent), whole(self, c))[1],
    )
    write = aiohttp.http_writer.StreamWriter._write
    many = aiohttp.http_writer.StreamWriter._writelines
    monkeypatch.setattr(
        aiohttp.http_writer.StreamWriter, "_write", lambda self, c: (at_write.append(sent_flag.sent), write(self, c))[1]
    )
    monkeypatch.setattr(
        aiohttp.http_writer.StreamWriter,
        "_writelines",
        lambda self, c: (at_write.append(sent_flag.sent), many(self, c))[1],
    )
    async with Server(answering(OK + b"Content-Length: 2\r\n\r\n{}")) as server:
        await http.send(
            call, base_url=server.url, key=KEY, key_header="Authorization", timeout=TIMEOUT, sent_flag=sent_flag
        )
    await http.close()

    assert at_write
    assert all(at_write)


async def test_a_call_carries_its_key_and_body_and_nothing_that_was_not_asked_for(http):
    async with Server(answering(OK + b"Content-Length: 2\r\n\r\n{}")) as server:
        await send(http, server.url + "/")

        head, _, body = bytes(server.seen).partition(b"\r\n\r\n")
        headers = {line.split(b": ")[0].lower(): line.split(b": ")[1] for line in head.split(b"\r\n")[1:]}
        assert head.startswith(b"POST /v1/images/generations HTTP/1.1\r\n")
        assert headers[b"authorization"] == b"Bearer sk-very-secret"
        assert headers[b"content-type"] == b"application/json"
        assert headers[b"accept-encoding"] == b"gzip, deflate"
        assert body == SUBMIT.body


async def test_a_key_with_a_header_of_its_own_goes_there_alone_and_is_taken_out_of_what_is_kept(http):
    body = b'{"echo": "sk-very-secret"}'
    async with Server(answering(OK + b"Content-Length: %d\r\n\r\n%s" % (len(body), body))) as server:
        exchange = await http.get(POLL, base_url=server.url, key=KEY, key_header="X-Api-Key", timeout=TIMEOUT)

        lines = bytes(server.seen).partition(b"\r\n\r\n")[0].lower().split(b"\r\n")
        assert b"x-api-key: sk-very-secret" in lines
        assert not [line for line in lines if line.startswith(b"authorization")]
        assert KEY.get_secret_value() not in repr(exchange)


async def test_a_form_carries_fields_and_files_in_order(http):
    url = "https://cdn.example/lamp.png?sig=1"
    form = (("prompt", 'häron "lamp"\r\n--x'), ("image", ReferenceFile(url=url)), ("async", "true"))
    file = File(content=b"\x89PNG\r\n\x1a\n" + bytes(range(256)), content_type="image/png", filename='a"b\n.png')
    call = Call(method="POST", path="/v1/images/edits", form=form)
    async with Server(answering(OK + b"Content-Length: 2\r\n\r\n{}")) as server:
        await http.send(
            call, base_url=server.url, key=KEY, key_header="Authorization", timeout=TIMEOUT, files={url: file}
        )
        seen = bytes(server.seen)

    head = next(line for line in seen.split(b"\r\n") if line.lower().startswith(b"content-type: multipart"))
    parts = message_from_bytes(head + b"\r\n\r\n" + seen.partition(b"\r\n\r\n")[2]).get_payload()
    names = [part.get_param("name", header="content-disposition") for part in parts]
    assert names == ["prompt", "image", "async"]
    assert parts[0].get_payload(decode=True).decode() == 'häron "lamp"\r\n--x'
    assert parts[1].get_payload(decode=True) == file.content
    assert parts[1].get_filename() == "a%22b%0A.png"
    assert parts[1].get_content_type() == "image/png"


async def test_provider_tests_may_replace_the_network():
    def handler(request):
        if request.url.path == "/down":
            raise httpx2.ConnectError("refused")
        request.extensions[SENT_FLAG].sent = True
        if request.url.path == "/lost":
            raise httpx2.ReadTimeout("nothing came")
        return httpx2.Response(200, headers={"X-Request-Id": "r1"}, json={"code": 0})

    http = Http(allow_private_hosts=False, transport=httpx2.MockTransport(handler))
    ends = {}
    for path in ("/down", "/lost", "/fine"):
        ends[path] = await send(http, "https://api.example", Call(method="POST", path=path, body=b"{}"))

    assert (ends["/down"].sent, ends["/lost"].sent, ends["/fine"].sent) == (False, True, True)
    assert ends["/fine"].response.headers["x-request-id"] == "r1"
    assert ends["/down"].response is ends["/lost"].response is None


def test_what_broke_is_told_in_plain_words_with_the_librarys_own_behind_them():
    refused = OSError(errno.ECONNREFUSED, "Connect call failed")
    told = describe(aiohttp.ClientConnectorError(SimpleNamespace(host="h", port=1, ssl=True), refused))

    assert told == "no connection could be made: connection refused (h:1)"
    assert describe(aiohttp.ServerDisconnectedError()).startswith("the server closed the connection (")
    assert describe(TimeoutError("no whole answer within 3 s")) == "no whole answer within 3 s"


# -- the error map -------------------------------------------------------------------------------------------------

NEVER_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError, httpx2.UnsupportedProtocol)


def every_exception():
    found = {asyncio.CancelledError: None}
    for module in (aiohttp, aiohttp.client_exceptions, aiohttp.http_exceptions):
        found |= dict.fromkeys(c for _, c in inspect.getmembers(module, inspect.isclass) if issubclass(c, Exception))
    found |= dict.fromkeys([OSError, TimeoutError, ValueError, RuntimeError, ConnectionResetError, UnicodeError])
    return [c for c in found if issubclass(c, Exception)]


class Raising:
    """A session whose request ends in a given exception, and its connections."""

    def __init__(self, error, *, sent):
        self.error, self.sent = error, sent

    def request(self, *_, trace_request_ctx, **__):
        trace_request_ctx.sent = self.sent
        raise self.error

    async def send(self, *_, leaves, **__):
        if self.sent:
            leaves()
        raise self.error


@pytest.mark.parametrize("call", [SUBMIT, BIG], ids=["small", "big"])
@pytest.mark.parametrize("sent", [True, False])
async def test_no_library_exception_leaves_the_transport_and_the_class_agrees_with_the_mark(sent, call):
    classes = every_exception()
    assert len(classes) > 30
    for known in classes:
        named = type(known.__name__, (known,), {"__str__": lambda _: "as told"})
        error = named.__new__(named)  # whatever its constructor wants
        raising = Raising(error, sent=sent)
        transport = SessionTransport(lambda r=raising: r, direct=lambda r=raising: r, connect_timeout=AT_LAST)
        http = Http(allow_private_hosts=False, transport=transport)

        exchange = await http.send(call, base_url="http://x", key=KEY, key_header="Authorization", timeout=TIMEOUT)

        told = type(truthful(error, SentFlag(sent=sent)))
        assert exchange.sent is sent, known
        assert exchange.response is None
        assert issubclass(told, NEVER_SENT) is not sent, known
