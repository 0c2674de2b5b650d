"""Each provider's key goes where its page says: the worker sends it there, and the sandbox wants it there alone."""

from __future__ import annotations

import httpx2
import pytest
from aiohttp.test_utils import make_mocked_request

from jobs.settings.model import AccountSettings
from providers.registry import DIALECTS, PROVIDERS
from sandbox.apis.registry import APIS
from sandbox.apis.service import key_of
from tests.support.dialect_shapes import SHAPES, TASK, route, submit
from tests.support.patience import AT_LAST
from worker.http.client import Http

KEY = "sk-of-this-account"
WANTED = {api.name: api.key_header for api in APIS}


class Recorder(httpx2.AsyncBaseTransport):
    """Keeps what would be sent."""

    def __init__(self):
        self.seen = []

    async def handle_async_request(self, request):
        self.seen.append(request)
        return httpx2.Response(200, content=b"{}")


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_submits_and_polls_are_sent_with_the_key_in_the_header_that_the_providers_page_names(provider):
    account, transport = AccountSettings(provider=provider, api_key=KEY), Recorder()
    http = Http(allow_private_hosts=False, transport=transport)
    calls = [submit(provider), DIALECTS[provider].poll(TASK, route(provider)[1], None)]

    for call in calls:
        await http.send(
            call, base_url=account.base_url, key=account.api_key, key_header=account.key_header, timeout=AT_LAST
        )

    name, _, value = SHAPES[provider].key_line.replace("KEY", KEY).partition(": ")
    assert len(transport.seen) == len(calls)
    for request in transport.seen:
        with_key = {header: text for header, text in request.headers.items() if KEY in text}
        assert with_key == {name.lower(): value}
    assert not [call for call in calls if KEY in repr(call)]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_sandbox_wants_the_key_in_the_header_that_the_providers_page_names(provider):
    name, _, value = SHAPES[provider].key_line.replace("KEY", KEY).partition(": ")
    others = {"Authorization": f"Bearer {KEY}", "X-Api-Key": KEY, "Api-Key": KEY}
    elsewhere = {header: text for header, text in others.items() if header != name}

    assert key_of(make_mocked_request("GET", "/", {name: value}), WANTED[provider]) == KEY
    assert key_of(make_mocked_request("GET", "/", elsewhere), WANTED[provider]) == ""
