"""Provider calls and downloads through an HTTP proxy: was it sent, what may a link lead to, and whose answer is it."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import io

import pytest
from pydantic import SecretStr

from jobs.policy import retry
from jobs.settings.proxies import read_proxies
from jobs.states import JobState
from providers.types import Call
from tests.support import tls, worker_world
from tests.support.certificates import authority
from tests.support.patience import AT_LAST, soon
from tests.support.raw_server import OK, Server, answering
from tests.support.shop_ledger import call
from worker.http import proxying
from worker.http.client import FetchError, Http
from worker.local.run import run_batch
from worker.references import look_at
from worker.registration.manifest_sources import local_source
from worker.runtime.limits import limits_of
from worker.services import build

KEY = SecretStr("sk-very-secret")
SUBMIT = Call(method="POST", path="/v1/images/generations", body=b'{"prompt":"a heron lamp"}')
ANSWER = OK + b"Content-Length: 2\r\n\r\n{}"
PASSWORD = "p@ss word"
ROWS = 5
LOGIN = b"Proxy-Authorization: Basic " + base64.b64encode(f"mia:{PASSWORD}".encode())


class Forwards:
    """What a proxy does with a connection: every name leads to a port of this machine."""

    def __init__(self, port, *, refusal=b"", dies_after=None):
        self.port, self.refusal, self.dies_after = port, refusal, dies_after
        self.asked = []

    async def __call__(self, server, reader, writer):
        head = await server.head(reader)
        line, _, rest = head.partition(b"\r\n")
        method, target, _ = line.split(b" ")
        self.asked.append((method + b" " + target).decode())
        if self.refusal:
            writer.write(b"HTTP/1.1 " + self.refusal + b"\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
            return
        there, back = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            if method == b"CONNECT":
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                await writer.drain()
                if self.dies_after == "CONNECT":
                    return
            else:
                path = b"/" + target.split(b"/", 3)[3]
                back.write(line.replace(target, path) + b"\r\n" + rest)
            ways = [asyncio.ensure_future(tls.pipe(*ends)) for ends in ((reader, back), (there, writer))]
            if self.dies_after not in (None, "CONNECT"):
                ways.append(asyncio.ensure_future(self.dies_after.wait()))
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
        finally:
            back.transport.abort()
            writer.transport.abort()


@pytest.fixture
def ca(tmp_path, monkeypatch):
    made = authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(made.bundle))
    return made


@pytest.fixture(params=["http", "https"])
def scheme(request):
    return request.param


@pytest.fixture
def provider(scheme, ca):
    """A function that makes the provider's server."""
    context = ca.server_named("provider.test") if scheme == "https" else None
    return lambda behave=None: Server(behave or answering(ANSWER), tls=context)


@pytest.fixture
async def through():
    """Makes an `Http` behind the proxy at an address."""
    made = []

    def make(proxy):
        login = f"http://mia:{PASSWORD.replace('@', '%40').replace(' ', '%20')}@127.0.0.1:{proxy.port}"
        proxies, problems = read_proxies(None, {"HTTP_PROXY": login, "HTTPS_PROXY": login})
        assert problems == []
        made.append(Http(allow_private_hosts=False, proxies=proxies))
        return made[-1]

    yield make
    for http in made:
        await http.close()


@pytest.fixture(autouse=True)
def names(monkeypatch):
    """What the machine's name server knows."""
    known = {"inside.test": ["10.0.0.7"], "public.test": ["93.184.216.34"], "localhost": ["127.0.0.1"]}
    asked = []

    async def look(host):
        asked.append(host)
        return known.get(host, [])

    monkeypatch.setattr(proxying, "_looked_up", look)
    return asked


async def send(http, scheme, port):
    exchange = await http.send(
        SUBMIT, base_url=f"{scheme}://provider.test:{port}", key=KEY, key_header="Authorization", timeout=AT_LAST
    )
    assert PASSWORD not in repr(exchange)
    assert "p%40ss" not in repr(exchange)
    return exchange


async def test_submits_and_downloads_go_through_the_proxy_which_gets_its_login(through, provider, scheme):
    async with provider() as server, Server(Forwards(server.port)) as proxy:
        http, body = through(proxy), io.BytesIO()

        exchange = await send(http, scheme, server.port)
        done = await http.download(f"{scheme}://provider.test:{server.port}/a.png", body, limit=99, timeout=AT_LAST)

        assert (exchange.sent, exchange.response.status, done.size) == (True, 200, 2)
        assert (server.posts, server.gets) == (1, 1)
        word, target = ("CONNECT", "provider.test") if scheme == "https" else ("POST", "http://provider.test")
        assert proxy.behave.asked[0].startswith(f"{word} {target}:{server.port}")
        assert LOGIN in proxy.seen
        assert (b"Proxy-Authorization" in server.seen) == (scheme == "http"), "this proxy takes nothing out"


@pytest.mark.parametrize("scheme", ["https"], indirect=True)
async def test_a_tunnel_is_used_again(through, scheme, provider):
    async def answers_twice(server, reader, writer):
        for _ in range(2):
            await server.whole(reader)
            writer.write(ANSWER)

    async with provider(answers_twice) as server, Server(Forwards(server.port)) as proxy:
        http = through(proxy)

        assert [(await send(http, scheme, server.port)).response.status for _ in range(2)] == [200, 200]
        assert len(proxy.behave.asked) == 1


@pytest.mark.parametrize("scheme", ["https"], indirect=True)
async def test_a_proxy_that_speaks_tls_itself_serves_as_well(provider, ca):
    async with (
        provider() as server,
        Server(Forwards(server.port), tls=ca.server) as proxy,
    ):
        proxies, _ = read_proxies(SecretStr(f"https://127.0.0.1:{proxy.port}"), {})
        http = Http(allow_private_hosts=False, proxies=proxies)
        exchange = await send(http, "https", server.port)
        await http.close()

        assert (exchange.response.status, len(proxy.behave.asked)) == (200, 1)


@pytest.mark.parametrize("scheme", ["https"], indirect=True)
async def test_a_manifest_and_a_look_at_references_go_through_the_proxy(provider):
    async with provider() as server, Server(Forwards(server.port)) as proxy:
        proxies, _ = read_proxies(SecretStr(f"http://127.0.0.1:{proxy.port}"), {})
        link = f"https://provider.test:{server.port}/m.csv"

        def fetched():
            with local_source(link, proxies=proxies) as source:
                return source.path.read_bytes()

        assert await asyncio.to_thread(fetched) == b"{}"
        looked = await asyncio.to_thread(look_at, [link], allow_private_hosts=False, proxies=proxies)

        assert list(looked.values()) == ["gives no PNG, JPEG or WebP"]
        assert len(proxy.behave.asked) == 2


@pytest.mark.parametrize(
    ("scheme", "refusal", "words"),
    [
        ("https", b"407 Proxy Authentication Required", "the proxy asks for a user and password (407)"),
        ("https", b"403 Forbidden", "the proxy answered 403"),
        ("https", b"502 Bad Gateway", "the proxy answered 502"),
        ("http", b"407 Proxy Authentication Required", "the proxy asks for a user and password (407)"),
    ],
    indirect=["scheme"],
)
async def test_what_a_proxy_refuses_was_not_sent_and_is_no_answer_of_the_provider(
    through, provider, scheme, refusal, words
):
    async with provider() as server, Server(Forwards(server.port, refusal=refusal)) as proxy:
        http = through(proxy)

        exchange = await send(http, scheme, server.port)
        with pytest.raises(FetchError) as missed:
            await http.download(
                f"{scheme}://provider.test:{server.port}/a.png", io.BytesIO(), limit=99, timeout=AT_LAST
            )

        assert (exchange.sent, exchange.response) == (False, None)
        assert words in exchange.problem
        assert f"through the proxy http://127.0.0.1:{proxy.port}" in exchange.problem
        assert (missed.value.retryable, missed.value.dead_link) == (True, False)
        assert server.connections == 0


@pytest.mark.parametrize("scheme", ["https"], indirect=True)
async def test_a_proxy_that_dies_before_a_byte_of_the_request_left_has_sent_nothing(through, provider, scheme):
    async with provider() as server, Server(Forwards(server.port, dies_after="CONNECT")) as proxy:
        exchange = await send(through(proxy), scheme, server.port)

        assert (exchange.sent, exchange.response) == (False, None)
        assert server.posts == 0


async def test_a_proxy_that_dies_after_the_request_left_leaves_the_outcome_unknown(through, provider, scheme):
    dies = asyncio.Event()

    async def reads(server, reader, writer):
        await server.whole(reader)
        await asyncio.sleep(AT_LAST)

    async with provider(reads) as server, Server(Forwards(server.port, dies_after=dies)) as proxy:
        sending = asyncio.create_task(send(through(proxy), scheme, server.port))
        await soon(server.busy.is_set)
        dies.set()
        exchange = await sending

        assert (exchange.sent, exchange.response, server.posts) == (True, None, 1)
        assert "through the proxy" in exchange.problem


@pytest.mark.parametrize("scheme", ["https"], indirect=True)
async def test_a_407_from_inside_the_tunnel_is_the_servers_own_and_may_have_been_paid(through, provider, scheme):
    said = b'HTTP/1.1 407 Odd\r\nContent-Length: 15\r\n\r\n{"id":"task_1"}'
    async with provider(answering(said)) as server, Server(Forwards(server.port)) as proxy:
        exchange = await send(through(proxy), scheme, server.port)

        assert (exchange.sent, exchange.response.status, exchange.response.body) == (True, 407, b'{"id":"task_1"}')


async def test_a_proxy_that_is_away_has_sent_nothing_and_is_named(through, scheme):
    async with Server(answering(ANSWER)) as proxy:
        http = through(proxy)
    exchange = await send(http, scheme, 443)

    assert (exchange.sent, exchange.response) == (False, None)
    assert "the proxy cannot be reached: connection refused" in exchange.problem


async def test_this_machines_own_addresses_are_reached_directly(through):
    async with Server(answering(ANSWER)) as server, Server(Forwards(server.port)) as proxy:
        http = through(proxy)

        exchange = await http.send(SUBMIT, base_url=server.url, key=KEY, key_header="Authorization", timeout=AT_LAST)

        assert (exchange.response.status, server.posts, proxy.connections) == (200, 1, 0)


@pytest.mark.parametrize("host", ["10.0.0.7", "169.254.169.254", "[::ffff:10.0.0.7]", "inside.test"])
async def test_a_link_that_leads_to_a_private_address_is_not_handed_to_the_proxy(through, scheme, host):
    async with Server(Forwards(1)) as proxy:
        with pytest.raises(FetchError) as refused:
            await through(proxy).download(f"{scheme}://{host}/a.png", io.BytesIO(), limit=99, timeout=AT_LAST)

        assert refused.value.code == "forbidden_address"
        assert proxy.connections == 0


async def test_a_redirect_to_a_private_address_is_not_handed_to_the_proxy(through, provider, scheme):
    redirect = b"HTTP/1.1 302 Found\r\nLocation: http://inside.test/secret\r\nContent-Length: 0\r\n\r\n"
    async with provider(answering(redirect)) as server, Server(Forwards(server.port)) as proxy:
        with pytest.raises(FetchError) as refused:
            await through(proxy).download(
                f"{scheme}://provider.test:{server.port}/a.png", io.BytesIO(), limit=99, timeout=AT_LAST
            )

        assert refused.value.code == "forbidden_address"
        assert len(proxy.behave.asked) == 1


async def test_a_name_that_nobody_here_knows_is_left_to_the_proxy_and_looked_up_once(through, provider, scheme, names):
    async with provider() as server, Server(Forwards(server.port)) as proxy:
        http = through(proxy)
        for _ in range(2):
            await http.download(
                f"{scheme}://provider.test:{server.port}/a.png", io.BytesIO(), limit=99, timeout=AT_LAST
            )

        assert names == ["provider.test"]


async def test_a_refusal_without_a_tunnel_may_be_the_proxys_and_kills_no_link(through):
    async with Server(Forwards(1, refusal=b"403 Forbidden")) as proxy:
        with pytest.raises(FetchError) as missed:
            await through(proxy).download("http://public.test/a.png", io.BytesIO(), limit=99, timeout=AT_LAST)

        assert (missed.value.retryable, missed.value.dead_link) == (True, False)


# -- doctor and a run ----------------------------------------------------------------------------------------------


def doctors_lines(code):
    return [line for line in call("doctor", code=code).stdout.splitlines() if line.startswith("proxy ")]


@pytest.mark.parametrize("scheme", ["http"], indirect=True)
async def test_doctor_names_the_proxy_and_says_whether_answers_come_through_it(provider, monkeypatch, tmp_path):
    async with provider() as server, Server(Forwards(server.port)) as proxy:
        monkeypatch.setenv("MAXAPI_IO_API_KEY", "key-1")
        monkeypatch.setenv("MAXAPI_IO_BASE_URL", f"http://provider.test:{server.port}")
        monkeypatch.setenv("HTTP_PROXY", f"http://mia:tellnobody@127.0.0.1:{proxy.port}")
        monkeypatch.setenv("NO_PROXY", "bucket.test")

        well = await asyncio.to_thread(doctors_lines, 0)
        proxy.behave.refusal = b"407 Proxy Authentication Required"
        ill = await asyncio.to_thread(doctors_lines, 1)

    named = f"http://127.0.0.1:{proxy.port} (HTTP_PROXY) leads to maxapi.io"
    assert [f"{named}, and answers come through it" in well[0], "not used for bucket.test" in well[1]] == [True, True]
    assert f"{named}; nothing comes through it" in ill[0]
    assert "tellnobody" not in "".join([*well, *ill])


async def test_a_run_waits_while_its_proxy_refuses_and_fails_no_row(sandbox, tmp_path, monkeypatch):
    monkeypatch.setattr(retry, "SHORT_COOLDOWN", 0.1)
    monkeypatch.setattr(retry, "LONGEST_SHORT_COOLDOWN", 0.2)
    sandbox.play(pictures={"tiny": True}, takes={"default": [0.1, 0.2]})
    port = int(sandbox.url.rpartition(":")[2])
    told = []
    async with Server(Forwards(port, refusal=b"407 Proxy Authentication Required")) as proxy:
        settings = worker_world.settings(
            tmp_path, base_url=f"http://provider.test:{port}/maxapi.io", api_key="sandbox-key"
        ).model_copy(update={"allow_private_hosts": True})
        settings._proxies, _ = read_proxies(SecretStr(f"http://127.0.0.1:{proxy.port}"), {})
        services = build(settings)
        services.ledger.accounts.sync(limits_of(settings))
        rows = [dataclasses.replace(worker_world.row(number), pixels=(1024, 1024)) for number in range(ROWS)]
        worker_world.stock(services, tmp_path, rows)

        def look(progress, accounts):
            told.extend(each.paused_message for each in accounts if each.paused_message)
            if told:
                assert JobState.FAILED not in progress.jobs
                proxy.behave.refusal = b""

        try:
            ending = await run_batch(services, "b", on_progress=look)
        finally:
            await services.close()

    assert "the proxy asks for a user and password (407)" in told[0]
    assert (ending.exit_code, ending.progress.jobs) == (0, {JobState.DONE: ROWS})
    assert (sandbox.stats()["total"]["charged_images"], ending.progress.images_unknown) == (ROWS, 0)
