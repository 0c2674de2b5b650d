"""The one HTTP server: paths to doors."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable
from typing import Any, Final

from aiohttp import web

from sandbox.apis.registry import APIS
from sandbox.apis.service import Service
from sandbox.control import Control
from sandbox.delivery.answers import give
from sandbox.delivery.cdn import Cdn
from sandbox.delivery.webhooks import Webhooks
from sandbox.images.pictures import Studio
from sandbox.troubles.scenario import Scenario
from sandbox.values import Answer, Json, Task
from sandbox.world import World

LARGEST_BODY: Final = 256_000_000  # bytes; references travel in base64 and in forms
TICK: Final = 0.2  # seconds between two looks for ended tasks while nobody asks


class SandboxServer:
    """All providers, their CDN and the control API."""

    def __init__(self, scenario: Scenario, *, seed: int | None = None) -> None:
        self.world = World(scenario, [api.name for api in APIS], seed=seed)
        self._cdn = Cdn(self.world, Studio(), {api.key_header for api in APIS})
        self._webhooks = Webhooks(self.world)
        self.world.on_end = self._webhooks.ended
        self._services = {api.name: Service(self.world, api(self.world), self._cdn, self._webhooks) for api in APIS}
        self._control = Control(self.world, self._cdn)
        self._webhooks.body_of = self._webhook_body
        self.url = ""

    # -- its life ------------------------------------------------------------------------------------------------

    async def start(self, host: str, port: int) -> web.ServerRunner:
        """Listens; `url` is then known."""
        make = functools.partial(web.BaseRequest, client_max_size=LARGEST_BODY)
        server = web.Server(self.handle, request_factory=_request_factory(make), access_log=None)
        runner = web.ServerRunner(server, handle_signals=False)
        await runner.setup()
        site = web.TCPSite(runner, host, port, shutdown_timeout=0.5, backlog=1024)
        await site.start()
        shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104  to be shown only
        self.url = f"http://{shown}:{runner.addresses[0][1]}"
        return runner

    async def tick(self) -> None:
        """Ends tasks while nobody asks, so that webhooks go out; until cancelled."""
        while True:
            await asyncio.sleep(TICK)
            self.world.settle()

    async def close(self) -> None:
        """Ends what is on its way."""
        await self._webhooks.close()

    # -- requests ------------------------------------------------------------------------------------------------

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Any request."""
        self.world.settle()
        found = self._find(request)
        if found is not None:
            try:
                return await found
            except ConnectionError:  # the client has gone: nobody to answer
                return web.Response()
        self.world.strange += 1
        error = {"message": f"no {request.method} {request.path}", "type": "invalid_request_error", "code": "not_found"}
        return (await give(request, Answer.of({"code": 404, "msg": "not found", "error": error}, 404)))[0]

    def _find(self, request: web.BaseRequest) -> Awaitable[web.StreamResponse] | None:
        door, _, rest = request.path.lstrip("/").partition("/")
        parts = (request.method, *rest.split("/"))
        match door:
            case "cdn" if request.method in ("GET", "HEAD"):
                return self._cdn.serve(request)
            case "_control":
                return self._control.serve(request, rest)
            case "livez":
                return _alive(request)
        service = self._services.get(door)
        return service.find(request, parts) if service else None

    async def _webhook_body(self, task: Task) -> Json:
        return await self._services[task.provider].webhook(task, self.url)


def _request_factory(make: Any) -> Any:
    """A factory that allows larger bodies; the server's own has no way to."""

    def build(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
        request: web.BaseRequest = make(message, payload, protocol, writer, task, asyncio.get_running_loop())
        return request

    return build


async def _alive(request: web.BaseRequest) -> web.StreamResponse:
    return (await give(request, Answer.of({"status": "ok"})))[0]
