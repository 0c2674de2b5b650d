"""The one HTTP server: paths to doors."""

from __future__ import annotations

import asyncio
import functools
import zlib
from collections.abc import Awaitable, Callable
from typing import Any, Final

import orjson
from aiohttp import web

from sandbox.apis.apimaster import MODELS, ApimasterApi
from sandbox.apis.maxapi_dev import DevApi
from sandbox.apis.maxapi_io import IoApi
from sandbox.apis.service import Service, key_of
from sandbox.control import Control
from sandbox.delivery.answers import give, leave_out
from sandbox.delivery.cdn import Cdn
from sandbox.delivery.webhooks import Webhooks
from sandbox.images.pictures import Studio
from sandbox.troubles.scenario import Scenario
from sandbox.values import APIMASTER, MAXAPI_DEV, MAXAPI_IO, Answer, Refusal, Task
from sandbox.world import World

LARGEST_BODY: Final = 256_000_000  # bytes; references travel in base64 and in forms
TICK: Final = 0.2  # seconds between two looks for ended tasks while nobody asks
#: Answers to a batch query that tell of no task.
BATCHES: Final = {
    "404": Answer.of({"error": {"message": "no such path", "code": "not_found"}}, 404),
    "garbage": Answer.of({"object": "list", "url": "/v1/tasks/batch"}),
}
BATCH_LIMIT: Final = 100  # tasks in one batch query; the real limit is not documented


class SandboxServer:
    """All three providers, their CDN and the control API."""

    def __init__(self, scenario: Scenario, *, seed: int | None = None) -> None:
        self.world = World(scenario, seed=seed)
        self._cdn = Cdn(self.world, Studio())
        self._webhooks = Webhooks(self.world)
        self.world.on_end = self._webhooks.ended
        self._io_api, self._apimaster_api = IoApi(self.world), ApimasterApi(self.world)
        self._io = Service(self.world, self._io_api, self._cdn, self._webhooks)
        self._dev = Service(self.world, DevApi(self.world), self._cdn, self._webhooks)
        self._apimaster = Service(self.world, self._apimaster_api, self._cdn, self._webhooks)
        self._control = Control(self.world, self._cdn)
        self._doors: dict[str, Callable[[web.BaseRequest, tuple[str, ...]], Awaitable[web.StreamResponse] | None]] = {
            MAXAPI_IO: self._find_io,
            MAXAPI_DEV: self._find_dev,
            APIMASTER: self._find_apimaster,
        }
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
        find = self._doors.get(door)
        return find(request, parts) if find else None

    def _find_io(self, request: web.BaseRequest, parts: tuple[str, ...]) -> Awaitable[web.StreamResponse] | None:
        match parts:
            case ("POST", "api", "v1", "task", "submit"):
                return self._io.submit(request)
            case ("GET", "api", "v1", "task", task_id):
                return self._io.poll(request, task_id)
            case ("POST", "api", "v1", "task", task_id, "cancel"):
                return self._io.cancel(request, task_id)
        return None

    def _find_dev(self, request: web.BaseRequest, parts: tuple[str, ...]) -> Awaitable[web.StreamResponse] | None:
        match parts:
            case ("POST", "v1", "images", ("generations" | "edits") as place):
                return self._dev.submit(request, place)
            case ("GET", "v1", "images", ("generations" | "edits") as place, task_id):
                return self._dev.poll(request, task_id, place)
        return None

    def _find_apimaster(self, request: web.BaseRequest, parts: tuple[str, ...]) -> Awaitable[web.StreamResponse] | None:
        match parts:
            case ("POST", "v1", "images", "generations"):
                return self._apimaster.submit(request)
            case ("POST", "v1", "images", "generations", "async"):
                return self._apimaster.submit(request, "async")
            case ("GET", "v1", "tasks", task_id):
                return self._apimaster.poll(request, task_id)
            case ("POST", "v1", "tasks", "batch"):
                return self._poll_many(request)
            case ("GET", "v1", "models"):
                return self._models(request)
        return None

    # -- what only one of them has -------------------------------------------------------------------------------

    async def _poll_many(self, request: web.BaseRequest) -> web.StreamResponse:
        """APIMaster's batch query. Its answer is not documented: here newest first, without those not known."""
        key, counts = key_of(request), self.world.counts[APIMASTER]
        counts.polls += 1
        try:
            ids = _task_ids(await request.read())
            self._apimaster.check_key(key)
            self.world.check_rate(APIMASTER, key, "poll")
        except Refusal as refusal:
            return (await give(request, self._apimaster_api.refused(refusal)))[0]
        if self.world.scenario.apimaster_batch in BATCHES:
            return (await give(request, BATCHES[self.world.scenario.apimaster_batch]))[0]
        tasks = [self.world.tasks[name] for name in self._in_order(ids) if name in self.world.tasks]
        counts.tasks_polled += len(ids)
        told = [await self._told(task, request) for task in tasks if task.key == key and task.provider == APIMASTER]
        return (await give(request, Answer.of({"code": 200, "data": told})))[0]

    def _in_order(self, ids: list[str]) -> list[str]:
        """Newest first, or as the scenario has it: in any order, or without a third of them."""
        how = self.world.scenario.apimaster_batch
        some = [name for name in reversed(ids) if how != "some" or zlib.crc32(name.encode()) % 3]
        return self.world.chance.sample(some, len(some)) if how == "shuffled" else some

    async def _told(self, task: Task, request: web.BaseRequest) -> dict[str, Any]:
        now = self.world.now()
        links = await self._apimaster.links_of(task, f"http://{request.host}")
        told = self._apimaster_api.data(task, now, links)
        if trouble := self._apimaster.undelivered(task, now):
            leave_out(told, trouble)
        return told

    async def _models(self, request: web.BaseRequest) -> web.StreamResponse:
        if not self.world.knows(key_of(request)):
            return (await give(request, self._apimaster_api.refused(Refusal("key", "invalid API key"))))[0]
        data = [{"id": name, "object": "model", "created": 1_776_000_000, "owned_by": "openai"} for name in MODELS]
        return (await give(request, Answer.of({"object": "list", "data": data})))[0]

    async def _webhook_body(self, task: Task) -> dict[str, Any]:
        links = await self._io.links_of(task, self.url)
        return {"code": 0, "data": self._io_api.data(task, self.world.now(), links)}


def _task_ids(text: bytes) -> list[str]:
    try:
        ids = orjson.loads(text)["task_ids"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise Refusal("invalid", "task_ids is required") from None
    if not isinstance(ids, list) or not 1 <= len(ids) <= BATCH_LIMIT or not all(isinstance(name, str) for name in ids):
        raise Refusal("invalid", f"task_ids must be an array of 1 to {BATCH_LIMIT} ids")
    return ids


def _request_factory(make: Any) -> Any:
    """A factory that allows larger bodies; the server's own has no way to."""

    def build(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
        request: web.BaseRequest = make(message, payload, protocol, writer, task, asyncio.get_running_loop())
        return request

    return build


async def _alive(request: web.BaseRequest) -> web.StreamResponse:
    return (await give(request, Answer.of({"status": "ok"})))[0]
