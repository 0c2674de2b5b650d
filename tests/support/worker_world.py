"""A worker with everything real but the network: the provider is a few lines here, and says what it is told to say."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import struct
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
from pydantic import SecretStr

from jobs.ledger.batches.values import NewBatch, Row
from jobs.settings.model import AccountSettings, Settings
from providers.types import Call, Request, Response
from tests.support.ledger_files import new_ledger
from tests.support.virtual_time import clock_here
from worker.http.client import Download, Exchange, FetchError, File
from worker.runtime.limits import limits_of
from worker.runtime.timings import Timings
from worker.services import Services, build

PRICE = 20_000


def png(width: int = 4, height: int = 4, colour: int = 0, *, pixels: bytes = b"", padding: int = 0) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = pixels or (b"\x00" + bytes([colour % 256]) * width) * height
    filling = chunk(b"fiLl", bytes(padding)) if padding else b""
    body = chunk(b"IHDR", head) + filling + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def answer(body: object, status: int = 200) -> Exchange:
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    return Exchange(sent=True, response=Response(status=status, headers={}, body=content), problem=None, took=0.0)


def no_answer(*, sent: bool) -> Exchange:
    return Exchange(sent=sent, response=None, problem="ServerDisconnectedError: gone", took=0.0)


@dataclasses.dataclass
class Provider:
    """MaxAPI.io, in place of `worker.http.client.Http`. The hooks change what it says."""

    on_submit: Callable[[dict[str, Any]], Any] | None = None  # None, or an Exchange, or an awaitable of one
    on_poll: Callable[[str], Any] | None = None
    on_download: Callable[[str], Any] | None = None
    submits: Counter[str] = dataclasses.field(default_factory=Counter)  # by prompt
    polls: Counter[str] = dataclasses.field(default_factory=Counter)  # by task id
    downloads: Counter[str] = dataclasses.field(default_factory=Counter)
    tasks: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    sent: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)
    _ids: Any = dataclasses.field(default_factory=itertools.count)

    async def send(self, call: Call, *, sent_flag: Any = None, **_: Any) -> Exchange:
        wanted = orjson.loads(call.body)["input"]
        self.submits[wanted["prompt"]] += 1
        if sent_flag is not None:
            sent_flag.sent = True
        self.sent.set()
        said = await _maybe(self.on_submit(wanted)) if self.on_submit else None
        return said if said is not None else self.accept(wanted)

    def accept(self, wanted: dict[str, Any]) -> Exchange:
        task_id = f"task-{next(self._ids)}"
        self.tasks[task_id] = wanted
        return answer({"code": 0, "msg": "ok", "data": {"taskId": task_id}})

    async def get(self, call: Call, **_: Any) -> Exchange:
        task_id = call.path.rpartition("/")[2]
        self.polls[task_id] += 1
        said = await _maybe(self.on_poll(task_id)) if self.on_poll else None
        return said if said is not None else self.finished(task_id)

    def finished(self, task_id: str, *, count: int | None = None) -> Exchange:
        wanted = self.tasks.get(task_id, {"n": 1})
        urls = [f"https://cdn.test/{task_id}/{i}.png?sig=1" for i in range(count or wanted.get("n", 1))]
        return answer({"code": 0, "data": {"status": "SUCCESS", "result": {"urls": urls}}})

    async def download(self, url: str, into: Any, **_: Any) -> Download:
        self.downloads[url] += 1
        said = await _maybe(self.on_download(url)) if self.on_download else None
        if isinstance(said, FetchError):
            raise said
        body = said if said is not None else self.picture(url)
        into.write(body)
        return Download(status=200, headers={}, size=len(body))

    @staticmethod
    def picture(url: str) -> bytes:
        return png(colour=zlib.crc32(url.partition("?")[0].encode()))

    async def fetch_reference(self, _url: str, **_: Any) -> File:
        return File(content=png(), content_type="image/png", filename="r.png")

    async def close(self) -> None:
        pass


async def _maybe(said: Any) -> Any:
    return await said if asyncio.iscoroutine(said) else said


def settings(tmp_path: Path, **changes: Any) -> Settings:
    account = AccountSettings(
        **{
            "provider": "maxapi.io",
            "api_key": SecretStr("key-1"),
            "base_url": "http://127.0.0.1:9",
            "submits_per_second": 2000,
            "polls_per_second": 2000,
            "max_in_flight": 100,
            "first_poll_after": 0.01,
            "poll_every": 0.02,
            **changes,
        }
    )
    return Settings(database_url=f"sqlite:///{tmp_path / 'ledger.db'}", accounts={"main": account})


_opened: list[Services] = []


async def close_all() -> None:
    """Closes every world; the fixture `worlds_are_closed` calls it after each test."""
    while _opened:
        await _opened.pop().close()


def world(tmp_path: Path, http: Provider, *, timings: Timings | None = None, **changes: Any) -> Services:
    if not (file := tmp_path / "ledger.db").exists():
        new_ledger(file)
    services = build(settings(tmp_path, **changes), clock=clock_here(), timings=timings)
    services.ledger.accounts.sync(limits_of(services.settings))
    _opened.append(dataclasses.replace(services, http=http))  # type: ignore[arg-type]
    return _opened[-1]


def row(
    position: int, *, n: int = 1, max_n: int = 10, path: str | None = None, pixels: tuple[int, int] = (4, 4)
) -> Row:
    request = Request(prompt=f"lamp {position}", model="gpt-image-2", ratio="1:1", resolution="1k", n=n)
    return Row(
        position=position,
        line=position + 2,
        key=f"k{position}",
        carried=b"{}",
        request=request,
        request_hash=request.hash(),
        path=path or f"b/k{position}/{{index}}.{{ext}}",
        provider="maxapi.io",
        provider_model="gpt-image-2/text-to-image",
        price=PRICE,
        pixels=pixels,
        max_n=max_n,
    )


def stock(services: Services, tmp_path: Path, rows: list[Row], **batch: Any) -> None:
    values = {"name": "b", "dest": str(tmp_path / "dest"), "path": "{batch}/{key}/{index}.{ext}", "columns": ()}
    services.ledger.batches.record_manifest(
        NewBatch(**{**values, "source": "b.csv", **batch}), rows, now=services.clock.now()
    )
