"""The way between a process and everything outside: it loses, delays and cuts, whatever becomes of the process."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import orjson

from jobs.errors import StoreError
from providers.types import Response
from worker.http.client import Download, FetchError, Http
from worker.http.transport import SENT_FLAG
from worker.storage.base import NO_METADATA, ObjectInfo, PutResult, Store

from . import together

if TYPE_CHECKING:
    from .process import Process
    from .providers_model import Task
    from .world import World

#: Seconds for a connection, as in `worker.http.client`.
CONNECT = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What comes back: an HTTP answer, perhaps only the first `cut` bytes of it, or nothing (`status` 0)."""

    status: int = 0
    headers: Mapping[str, str] | None = None
    body: bytes = b""
    cut: int | None = None


class Network(httpx2.AsyncBaseTransport):
    """In place of aiohttp, for one process."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._world = process.world

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        account = request.url.host.removesuffix(".sim")
        rng, moods = self._world.rng, self._world.moods
        trouble = moods.unreachable if request.method == "POST" else moods.poll_trouble / 4
        if rng.random() < trouble:
            await asyncio.sleep(rng.uniform(0.01, 5))
            raise httpx2.ConnectError("connection refused")
        if rng.random() < 0.3:
            async with asyncio.timeout(CONNECT):
                await asyncio.sleep(rng.uniform(0.01, 0.3))
        sent_flag = request.extensions[SENT_FLAG]
        if sent_flag.may_leave is not None and not sent_flag.may_leave():
            sent_flag.too_late = True
            raise httpx2.ConnectError("TooLateError: the right to send ended while the connection was made")
        sent_flag.sent = True  # from here to the departure nothing is awaited, as on a kept connection
        loop = asyncio.get_running_loop()
        coming: asyncio.Future[Answer] = loop.create_future()
        if request.url.path.endswith("/tasks/batch"):
            asked = orjson.loads(request.read())["task_ids"]
            self._world.poll_departs(self._process, account, asked, coming)
        elif request.method == "POST":
            self._world.submit_departs(self._process, account, sent_flag, request.read(), coming)
        else:
            self._world.poll_departs(self._process, account, request.url.path.rpartition("/")[2], coming)
        return self._read(await coming, sent_flag)

    @staticmethod
    def _read(answer: Answer, sent_flag: Any) -> httpx2.Response:
        if not answer.status:
            raise httpx2.ReadError("ServerDisconnectedError: gone")
        if answer.cut is not None:
            sent_flag.partial = Response(status=answer.status, headers={}, body=answer.body[: answer.cut])
            raise httpx2.ReadError("ClientPayloadError: cut off")
        return httpx2.Response(answer.status, headers=dict(answer.headers or {}), content=answer.body)


class SimHttp(Http):
    """The real client over the simulated network; downloads come from the model's CDN."""

    def __init__(self, process: Process) -> None:
        super().__init__(allow_private_hosts=True, transport=Network(process))
        self._process = process

    async def download(self, url: str, into: Any, *, limit: int, timeout: float) -> Download:  # noqa: ARG002, ASYNC109  its shape
        world = self._process.world
        rng, moods = world.rng, world.moods
        await asyncio.sleep(rng.uniform(0.05, 2) + rng.uniform(0, world.crawl))
        if rng.random() < moods.cdn_trouble:
            return await self._trouble(url, into, timeout)
        content = world.model.fetch(url)
        if content is None:
            raise FetchError("link_dead", "cdn.sim answered 403", dead_link=True)
        into.write(content)
        return Download(status=200, headers={}, size=len(content))

    async def _trouble(self, url: str, into: Any, timeout: float) -> Download:  # noqa: ASYNC109  as above
        world = self._process.world
        kind = world.rng.choice(("5xx", "cut", "html", "slow", "truncated", "dead"))
        if kind == "5xx":
            raise FetchError("download_failed", "cdn.sim answered 503", retryable=True)
        if kind == "cut":
            raise FetchError("truncated", "the body broke off", retryable=True)
        if kind == "dead":
            raise FetchError("link_dead", "cdn.sim answered 403", dead_link=True)
        if kind == "slow":
            await asyncio.sleep(timeout)
            raise FetchError("download_timeout", "not done", retryable=True)
        content = b"<html>busy</html>" if kind == "html" else (world.model.fetch(url) or b"")[:-7]
        into.write(content)
        return Download(status=200, headers={}, size=len(content))


class Bucket(Store):
    """The destination, shared by all processes. `refuses`: what it says now instead of working."""

    def __init__(self, world: World, dest: str) -> None:
        self.world = world
        self.dest = dest
        self.held: dict[str, tuple[bytes, Mapping[str, str]]] = {}
        self.has_refused = False  # at least once, whatever it was asked
        self.refuses: str | None = None
        self.unreliable = 0.0

    def put_new(
        self,
        path: str,
        data: bytes | Path,
        *,
        content_type: str,  # noqa: ARG002  its shape
        metadata: Mapping[str, str] = NO_METADATA,
        sha256: str = "",
    ) -> PutResult:
        self._demand_working()
        assert sha256 in {"", hashlib.sha256(data if isinstance(data, bytes) else data.read_bytes()).hexdigest()}
        content = data if isinstance(data, bytes) else data.read_bytes()
        if path in self.held:
            return PutResult.EXISTS
        if self.world.rng.random() < self.unreliable / 2:
            self.has_refused = True
            raise StoreError(code="bucket_failing", message="500", retryable=True)
        self.world.watch.stored(self.dest, path, content, metadata)
        self.held[path] = (content, dict(metadata))
        if self.world.rng.random() < self.unreliable:
            if self.world.rng.random() < 0.5:
                return PutResult.EXISTS  # the store's client repeated a put that had worked
            self.has_refused = True
            raise StoreError(code="bucket_unreachable", message="no answer", retryable=True)
        return PutResult.STORED

    def put(
        self,
        path: str,
        data: bytes | Path,
        *,
        content_type: str,  # noqa: ARG002  its shape
        metadata: Mapping[str, str] = NO_METADATA,
    ) -> None:
        self._demand_working()
        self.held[path] = (data if isinstance(data, bytes) else data.read_bytes(), dict(metadata))

    def read(self, path: str) -> bytes | None:
        self._demand_working()
        found = self.held.get(path)
        return found[0] if found else None

    def look(self, path: str) -> ObjectInfo | None:
        self._demand_working()
        found = self.held.get(path)
        return ObjectInfo(size=len(found[0]), metadata=found[1]) if found else None

    def sha256_of(self, path: str) -> str | None:
        content = self.read(path)
        return None if content is None else hashlib.sha256(content).hexdigest()

    def objects(self, below: str = "") -> Iterator[str]:
        self._demand_working()
        yield from [path for path in list(self.held) if path.startswith(below)]

    def delete(self, path: str) -> None:
        self._demand_working()
        self.held.pop(path, None)

    def presign(self, path: str, seconds: float) -> str:  # noqa: ARG002  its shape
        return path

    def url_of(self, path: str) -> str:
        return f"{self.dest}/{path}"

    def _demand_working(self) -> None:
        if self.refuses is not None:
            self.has_refused = True
            denied = self.refuses == "bucket_denied"
            raise StoreError(code=self.refuses, message=self.refuses, retryable=not denied, denied=denied)


class Roads:
    """What happens between departure and answer. Mixed into the world: it goes on when the process has died."""

    def submit_departs(
        self: World, process: Process, account: str, sent_flag: Any, body: bytes, coming: asyncio.Future[Answer]
    ) -> None:
        """A POST leaves a process."""
        intent = process.intent_of(sent_flag)
        self.watch.departs(process, account, intent)
        provider = self.settings.accounts[account].provider
        travel = self.rng.uniform(0.005, 0.3)
        if self.rng.random() < self.moods.lost_before:
            self.say("lost", intent.attempt_id, "before it arrived")
            self.timeline.after(self._hang(), lambda: self._deliver(process, coming, Answer()))
        else:
            self.timeline.after(
                travel, lambda: self._submit_arrives(process, account, provider, intent.attempt_id, body, coming)
            )
        process.notice("departed")

    def _submit_arrives(
        self: World,
        process: Process,
        account: str,
        provider: str,
        attempt_id: int,
        body: bytes,
        coming: asyncio.Future[Answer],
    ) -> None:
        rng, moods, model = self.rng, self.moods, self.model
        self.watch.on_the_way.discard(attempt_id)  # from here on its task is in flight, or nothing is
        mood = model.account_mood.get(account)
        if mood in ("key", "balance", "busy") or rng.random() < moods.refused:
            kind = mood if mood in ("key", "balance", "busy") else rng.choice(("busy", "invalid"))
            status, said, headers = model.refusal(provider, kind)
            self.say("refused", attempt_id, kind)
            self._answer(process, coming, Answer(status=status, headers=headers, body=orjson.dumps(said)))
            return
        if mood == "storm" or rng.random() < moods.broken_before:
            self.say("broken before", attempt_id)
            self._answer(process, coming, Answer(status=rng.choice((500, 502, 503)), body=b"oops"))
            return
        over = self.gates[account].refuses(model.flying(account), self.timeline.now)
        if over is not None:
            status, said, headers = model.refusal(provider, "busy")
            self.say("refused", attempt_id, over)
            self.met[over] += 1
            self._answer(process, coming, Answer(status=status, headers=headers, body=orjson.dumps(said)))
            return
        task = model.order(account, provider, attempt_id, orjson.loads(body))
        self.say("accepted", attempt_id, task.id, f"n={task.n}")
        if task.callback and rng.random() < moods.twins:
            twin = model.order(account, provider, attempt_id, orjson.loads(body))
            self.say("twin", attempt_id, twin.id)
        process.notice("accepted")
        if rng.random() < moods.broken_after:
            self._break(process, task, coming)
            return
        status, said = model.accepted(task)
        if provider != "maxapi.io" and rng.random() < moods.synchronous:
            task.b64 = rng.random() < 0.4
            model.finished_at_once(task)
            status, said = model.delivered(task)
        content = orjson.dumps(said)
        late = rng.choice((30.0, 90.0, 250.0, 700.0)) if rng.random() < moods.late else 0.0
        self.timeline.after(
            late + rng.uniform(0.05, 1.5),
            lambda: self._deliver(process, coming, Answer(status=status, body=content), task),
        )

    def _break(self: World, process: Process, task: Task, coming: asyncio.Future[Answer]) -> None:
        """Accepted, and the answer is no answer."""
        kind = self.rng.choice(("5xx", "garbage", "cut", "gone", "silence"))
        self.say("answer broken", task.attempt_id, kind)
        if kind == "silence":
            return  # until the client's own time is up
        content = orjson.dumps(self.model.accepted(task)[1])
        answers = {
            "5xx": Answer(status=502, body=b"bad gateway"),
            "garbage": Answer(status=200, body=b"<html>ok</html>"),
            "cut": Answer(status=200, body=content, cut=self.rng.randrange(len(content))),
            "gone": Answer(),
        }
        self._answer(process, coming, answers[kind])

    def poll_departs(
        self: World, process: Process, account: str, asked: str | list[str], coming: asyncio.Future[Answer]
    ) -> None:
        """A question leaves a process: about one task, or about many."""
        self.timeline.after(self.rng.uniform(0.01, 0.3), lambda: self._poll_arrives(process, account, asked, coming))

    def _poll_arrives(
        self: World, process: Process, account: str, asked: str | list[str], coming: asyncio.Future[Answer]
    ) -> None:
        rng, model = self.rng, self.model
        provider = self.settings.accounts[account].provider
        mood = model.account_mood.get(account)
        if mood == "key":
            status, said, headers = model.refusal(provider, mood)
            self._answer(process, coming, Answer(status=status, headers=headers, body=orjson.dumps(said)))
            return
        if rng.random() < self.moods.poll_trouble:
            kind = rng.choice(("5xx", "garbage", "gone", "silence", "busy", "another"))
            if kind == "silence":
                return
            busy = orjson.dumps(model.refusal(provider, "busy")[1])
            another = orjson.dumps(model.shown(provider, rng.choice(list(model.tasks)))[1])
            answers = {
                "5xx": Answer(status=503, body=b"busy"),
                "garbage": Answer(status=200, body=b"{"),
                "gone": Answer(),
                "busy": Answer(status=429, body=busy),
                "another": Answer(status=200, body=another),
            }
            self._answer(process, coming, answers[kind])
            return
        status, said = model.shown(provider, asked) if isinstance(asked, str) else self._shown_together(asked)
        self._answer(process, coming, Answer(status=status, body=orjson.dumps(said)))

    def _shown_together(self: World, asked: list[str]) -> tuple[int, Any]:
        self.met[f"asked together, {self.manner}"] += 1

        def show(name: str) -> dict[str, Any] | None:
            status, said = self.model.shown("apimaster", name)
            return said["data"] if status == 200 else None  # type: ignore[no-any-return]

        return together.answer(self.rng, self.manner, asked, show, list(self.model.tasks))

    # -- on the way back -------------------------------------------------------------------------------------------

    def _hang(self: World) -> float:
        return self.rng.choice((0.1, 1.0, 20.0, 900.0))

    def _answer(self: World, process: Process, coming: asyncio.Future[Answer], answer: Answer) -> None:
        """An answer sets out; a slow poll may come after a quicker later one."""
        slow = self.rng.uniform(1, 25) if self.rng.random() < self.moods.late else self.rng.uniform(0.01, 0.5)
        self.timeline.after(slow, lambda: self._deliver(process, coming, answer))

    def _deliver(
        self: World, process: Process, coming: asyncio.Future[Answer], answer: Answer, task: Task | None = None
    ) -> None:
        if not process.alive or coming.done():
            return
        coming.set_result(answer)
        if task is not None:
            self.watch.answered(process, task)
            process.notice("answered")
