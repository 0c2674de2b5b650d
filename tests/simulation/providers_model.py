"""A model of the three providers and their CDN: what they accept, make, charge for, and say."""

from __future__ import annotations

import itertools
import random
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from providers.token_prices import TokenPrices, Usage

from .schedule import EPOCH, Timeline

Json = dict[str, Any]
#: What MaxAPI.dev bills by, where it bills by tokens.
TOKENS = TokenPrices(text_input=350_000, image_input=350_000, image_output=700_000)


@dataclass(slots=True, kw_only=True, eq=False)
class Task:
    """One provider task. What it will come to is known to the model alone."""

    id: str
    account: str
    provider: str
    attempt_id: int
    prompt: str
    model: str
    n: int
    price: int
    made_at: float  # virtual seconds, as the others
    ends_at: float
    reason: str | None  # why it fails; None: it succeeds
    delivers: int
    link_life: float
    files_until: float
    known_from: float  # until then the provider says 404
    forgotten_from: float
    callback: str | None
    odd: str | None = None  # what its first answers say of it once it has ended: "empty", "short", "failed"
    odd_answers: int = 0  # how many still do
    used: Usage | None = None  # of one image; billed by it, and `price` is the most that it may cost
    tells_usage: bool = True
    b64: bool = False

    def is_over(self, now: float) -> bool:
        return now >= self.ends_at

    def charge(self, now: float) -> int:
        """Micro-dollars: all that was ordered until it ends, then what it delivered."""
        if not self.is_over(now):
            return self.price * self.n
        return self.price * self.delivers if self.used is None else TOKENS.charge(self.usage)

    @property
    def usage(self) -> Usage:
        """Of all its images together."""
        used, many = self.used or Usage(text=0, image=0, output=0), self.delivers
        return Usage(text=used.text * many, image=0, output=used.output * many)

    def told(self) -> Json:
        """How its answer says so."""
        if self.used is None or not self.tells_usage:
            return {}
        return {"usage": {"input_tokens": self.usage.text, "output_tokens": self.usage.output}}

    @property
    def key(self) -> str:
        """The key of the row whose prompt this is."""
        return self.prompt.split()[1]

    def picture(self, index: int) -> bytes:
        return _png(f"{self.id}/{index}")


def _png(text: str) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    told = chunk(b"tEXt", b"id\x00" + text.encode())
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + told + chunk(b"IDAT", _PIXEL) + chunk(b"IEND", b"")


_PIXEL = zlib.compress(b"\x00\x00")


@dataclass(slots=True, kw_only=True, eq=False)
class Moods:
    """How likely each trouble is. All are zero once the world is calm."""

    unreachable: float = 0.0
    lost_before: float = 0.0  # sent, and the provider never saw it
    refused: float = 0.0  # 429, 400 and the like for no reason of ours
    broken_before: float = 0.0  # 5xx, and nothing was made
    broken_after: float = 0.0  # 5xx, garbage, cut, or no answer, and a task was made
    late: float = 0.0  # the answer takes long, or longer than anyone waits
    twins: float = 0.0
    synchronous: float = 0.0
    task_fails: float = 0.0
    short: float = 0.0
    slow_task: float = 0.0
    forgets: float = 0.0
    poll_trouble: float = 0.0
    cdn_trouble: float = 0.0
    early_expiry: float = 0.0
    webhook_lost: float = 0.0
    webhook_odd: float = 0.0


@dataclass(slots=True, eq=False)
class Model:
    """All providers together. `account_mood`: account -> "key" | "balance" | "busy" | "storm" while it lasts."""

    timeline: Timeline
    rng: random.Random
    moods: Moods
    odd: random.Random  # of tasks whose first answers are taken back by the next; beside the other chances
    prices: dict[str, int] = field(default_factory=dict)  # account -> micro-dollars an image
    tasks: dict[str, Task] = field(default_factory=dict)
    by_attempt: dict[int, list[Task]] = field(default_factory=dict)
    account_mood: dict[str, str] = field(default_factory=dict)
    call_back: Callable[[Task], None] = lambda _task: None
    oddness: float = 0.0  # how likely that is
    _numbers: Any = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        self.oddness = self.odd.choice((0.0, 0.0, 0.03, 0.15, 0.4))

    # -- orders ----------------------------------------------------------------------------------------------------

    def order(self, account: str, provider: str, attempt_id: int, body: Json) -> Task:
        """Accepts an order: from here on it costs."""
        wanted = body.get("input", body)
        rng, now, moods = self.rng, self.timeline.now, self.moods
        n = int(wanted["n"])
        seconds = rng.uniform(4, 40) if rng.random() >= moods.slow_task else rng.uniform(100, 900)
        fails = rng.random() < moods.task_fails
        reason = rng.choice(REASONS) if fails else None
        delivers = 0 if fails else n
        if delivers > 1 and rng.random() < moods.short:
            delivers = rng.randrange(1, n)
        forgets = rng.random() < moods.forgets
        early = rng.random() < moods.early_expiry
        odd = self.odd.choice(list(ODD)) if delivers and self.odd.random() < self.oddness else None
        task = Task(
            id=f"{account}-task-{next(self._numbers)}",
            account=account,
            provider=provider,
            attempt_id=attempt_id,
            prompt=wanted["prompt"],
            model=body["model"],
            n=n,
            price=self.prices[account],
            made_at=now,
            ends_at=now + seconds,
            reason=reason,
            delivers=delivers,
            link_life=rng.uniform(20, 200) if early else rng.uniform(400, 1_200),
            files_until=now + seconds + (rng.uniform(40, 400) if early and rng.random() < 0.5 else 1e9),
            known_from=now + (rng.uniform(0, 30) if rng.random() < moods.poll_trouble else 0.0),
            forgotten_from=now + rng.uniform(0, 60) if forgets else 1e12,
            callback=body.get("callBackUrl"),
            used=self._used(body.get("route_mode")),
            tells_usage=self.odd.random() < 0.9,
            odd=odd,
            odd_answers=self.odd.randint(1, ODD[odd]) if odd else 0,
        )
        self.tasks[task.id] = task
        self.by_attempt.setdefault(attempt_id, []).append(task)
        if task.callback:
            self.timeline.after(task.ends_at - now, lambda: self.call_back(task))
        return task

    def _used(self, mode: str | None) -> Usage | None:
        if mode != "official-cheap":
            return None
        return Usage(text=self.odd.randint(1, 12), image=0, output=self.odd.choice((196, 1_756, 7_024)))

    def flying(self, account: str) -> int:
        """Tasks that hold a place there."""
        return sum(task.account == account and not task.is_over(self.timeline.now) for task in self.tasks.values())

    def finished_at_once(self, task: Task) -> None:
        """The order was made synchronously after all."""
        task.ends_at = self.timeline.now
        task.reason, task.delivers = None, max(1, task.delivers)
        task.known_from, task.forgotten_from = 0.0, 1e12

    def accepted(self, task: Task) -> tuple[int, Json]:
        if task.provider == "maxapi.io":
            return 200, {"code": 0, "msg": "ok", "data": {"taskId": task.id}}
        if task.provider == "maxapi.dev":
            return 200, {"id": task.id, "task_id": task.id, "status": "queued", "created": _unix(task.made_at)}
        return 200, {"code": 200, "data": [{"status": "submitted", "task_id": task.id}]}

    def delivered(self, task: Task) -> tuple[int, Json]:
        """What a synchronous answer says."""
        links = [self._image(task, index) for index in range(task.delivers)]
        return 200, {"created": _unix(task.made_at), "data": links, **task.told()}

    def refusal(self, provider: str, kind: str) -> tuple[int, Json, dict[str, str]]:
        """An answer that surely accepts nothing."""
        status, words = REFUSALS[kind]
        headers = self._patience() if kind == "busy" else {}
        if provider == "maxapi.io":
            http = 200 if self.rng.random() < 0.5 and kind != "busy" else status
            return http, {"code": status, "msg": words}, headers
        return status, {"error": {"message": words, "code": words.replace(" ", "_"), "type": "error"}}, headers

    def _patience(self) -> dict[str, str]:
        rng = self.rng
        wait = rng.randrange(1, 20)
        told = (str(wait), str(wait), _date(self.timeline.now + wait), "0", "soon", "1e12")
        said = rng.choice((None, None, None, *told))
        return {} if said is None else {"Retry-After": said}

    # -- polls -----------------------------------------------------------------------------------------------------

    def shown(self, provider: str, task_id: str) -> tuple[int, Json]:
        now = self.timeline.now
        task = self.tasks.get(task_id)
        if task is None or now < task.known_from or now >= task.forgotten_from:
            return 404, {
                "code": 404,
                "msg": "task not found",
                "error": {"message": "no such task", "code": "not_found"},
            }
        said = _SHOWN[provider](self, task, now)
        if task.is_over(now) and task.odd_answers:
            task.odd_answers -= 1
            _take_back(said if provider == "maxapi.dev" else said["data"], str(task.odd))
        return 200, said

    def io_data(self, task: Task, now: float) -> Json:
        over = task.is_over(now)
        state = ("FAILURE" if task.reason else "SUCCESS") if over else "PROCESSING"
        return {
            "taskId": task.id,
            "status": state,
            "input": {"model": task.model, "prompt": task.prompt, "n": task.n},
            "result": {"type": "image", "urls": self.links(task)} if over and not task.reason else None,
            "failure_reason": _IO_REASONS[task.reason] if over and task.reason else None,
            "created_at": _iso(task.made_at),
            "updated_at": _iso(min(now, task.ends_at)),
        }

    def _io(self, task: Task, now: float) -> Json:
        return {"code": 0, "msg": "ok", "data": self.io_data(task, now)}

    def _dev(self, task: Task, now: float) -> Json:
        body: Json = {"id": task.id, "task_id": task.id, "created": _unix(task.made_at)}
        if not task.is_over(now):
            return {**body, "status": "in_progress"}
        if task.reason:
            return {**body, "status": "failed", "error": {"code": _REASONS[task.reason], "message": "it failed"}}
        data = [self._image(task, index) for index in range(task.delivers)]
        return {**body, "status": "succeeded", "data": data, **task.told()}

    def _apimaster(self, task: Task, now: float) -> Json:
        body: Json = {"task_id": task.id, "created": _unix(task.made_at)}
        if not task.is_over(now):
            return {"code": 200, "data": {**body, "status": "processing"}}
        if task.reason:
            error = {"code": _REASONS[task.reason], "message": "it failed"}
            return {"code": 200, "data": {**body, "status": "failed", "error": error}}
        images = [{"url": [link], "expires_at": int(EPOCH + now + task.link_life)} for link in self.links(task)]
        return {"code": 200, "data": {**body, "status": "completed", "result": {"images": images}}}

    def _image(self, task: Task, index: int) -> Json:
        if task.b64:
            import base64  # noqa: PLC0415  seldom needed  seldom

            return {"b64_json": base64.b64encode(task.picture(index)).decode()}
        return {"url": self.links(task)[index]}

    # -- the CDN ---------------------------------------------------------------------------------------------------

    def links(self, task: Task) -> list[str]:
        """Links, signed anew each time, whether the files are still there or not."""
        until = self.timeline.now + task.link_life
        return [f"https://cdn.sim/{task.id}/{index}.png?until={until!r}" for index in range(task.delivers)]

    def fetch(self, url: str) -> bytes | None:
        """The picture behind a link; None when the link is dead."""
        place, _, until = url.removeprefix("https://cdn.sim/").partition("?until=")
        task_id, _, name = place.partition("/")
        if self.timeline.now >= min(float(until), self.tasks[task_id].files_until):
            return None
        return self.tasks[task_id].picture(int(name.removesuffix(".png")))


_SHOWN: dict[str, Callable[[Model, Task, float], Json]] = {
    "maxapi.io": Model._io,
    "maxapi.dev": Model._dev,
    "apimaster": Model._apimaster,
}

#: What a task that ended well may be called at first, and in how many answers at most: fewer than are believed.
ODD = {"empty": 4, "short": 3, "failed": 1}
_FAILED = {"SUCCESS": "FAILURE", "succeeded": "failed", "completed": "failed"}


def _take_back(task: Json, odd: str) -> None:
    """Says of a task that ended well what its next answers will not repeat."""
    place = task.get("result", task)
    name = next(name for name in ("urls", "images", "data") if name in place)
    place[name] = place[name][:-1] if odd == "short" else []
    if odd == "failed":
        task["status"] = _FAILED[task["status"]]


REASONS = ("transient", "transient", "transient", "moderation", "balance", "invalid")
_IO_REASONS = {
    "transient": None,
    "moderation": "CONTENT_MODERATION",
    "balance": "INSUFFICIENT_POINTS",
    "invalid": "INVALID_PARAMETERS",
}
_REASONS = {
    "transient": "generation_failed",
    "moderation": "moderation_blocked",
    "balance": "insufficient_quota",
    "invalid": "invalid_request",
}
REFUSALS = {
    "key": (401, "invalid api key"),
    "balance": (402, "insufficient quota"),
    "busy": (429, "rate limit exceeded"),
    "invalid": (400, "invalid request"),
}


def _date(at: float) -> str:
    from email.utils import formatdate  # noqa: PLC0415  seldom needed  seldom

    return formatdate(EPOCH + at, usegmt=True)


def _unix(at: float) -> int:
    return int(EPOCH + at)


def _iso(at: float) -> str:
    from datetime import UTC, datetime  # noqa: PLC0415  seldom needed

    return datetime.fromtimestamp(EPOCH + at, UTC).isoformat().replace("+00:00", "Z")
