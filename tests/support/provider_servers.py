"""The three providers and a CDN as their own pages tell of them, by nobody who has seen Lightfast: four plain ports.

Made from the documentation only, with the standard library's server, so that nothing here agrees with the product by
accident. Strict about what it is sent; every POST is written down, and where the pages leave a shape open the answers
take turns through the readings.
"""

from __future__ import annotations

import abc
import base64
import contextlib
import io
import json
import struct
import threading
import time
import urllib.request
import uuid
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from PIL import Image

from tests.support.patience import until
from tests.support.random_orders import Order, RefusedError, am_order, dev_order, fields, form, io_order, require

KEYS = {"maxapi.io": "io-secret", "maxapi.dev": "dev-secret", "apimaster": "am-secret"}
VARIABLES = {"maxapi.io": "MAXAPI_IO", "maxapi.dev": "MAXAPI_DEV", "apimaster": "APIMASTER"}


@dataclass(slots=True)
class Manners:
    """How it behaves. `answer` sees each accepted order: it may hang, or return "cut" to break off unanswered."""

    takes: Callable[[int], float] = lambda number: 0.05 + 0.15 * (number % 5)
    answer: Callable[[Order], str | bytes | None] = lambda _order: None
    poll: Callable[[Order], bytes | None] = lambda _order: None
    forms: bool = True  # take turns through the shapes the pages leave open


class Providers:
    """What all four ports know."""

    def __init__(self) -> None:
        """Empty."""
        self.lock = threading.Lock()
        self.manners = Manners()
        self.posts: list[tuple[str, str]] = []
        self.orders: list[Order] = []
        self.complaints: list[str] = []
        self.files: dict[str, bytes] = {}
        self.ports: dict[str, str] = {}
        self.open = 0  # connections
        self.polls: Counter[str] = Counter()
        self.turns: Counter[str] = Counter()

    def forget(self) -> None:
        """A new day; pictures handed out stay, and the references are there, whatever a test took away."""
        with self.lock:
            self.files |= {"/ref.png": png((640, 480), "a reference"), "/ref2.png": png((480, 640), "another")}
            self.manners = Manners()
            for book in (self.posts, self.orders, self.complaints, self.polls, self.turns):
                book.clear()

    def environment(self) -> dict[str, str]:
        """Keys and base URLs, as a user would set them."""
        keys = {f"{VARIABLES[name]}_API_KEY": key for name, key in KEYS.items()}
        return keys | {f"{VARIABLES[name]}_BASE_URL": self.ports[name] for name in KEYS}

    def settle(self) -> None:
        """Returns when all that clients which are gone have sent is read."""
        for name in KEYS:  # a later connection is taken after all earlier ones
            urllib.request.urlopen(f"{self.ports[name]}/ref.png").close()
        until(lambda: not self.open)

    def paid(self) -> Counter[str]:
        """How many orders of each prompt were accepted."""
        with self.lock:
            return Counter(order.prompt for order in self.orders)

    def images_of(self, prompt: str) -> list[bytes]:
        """Every picture made for a prompt."""
        with self.lock:
            return [self.files[path] for order in self.orders if order.prompt == prompt for path in order.files]

    def turn(self, what: str, of: int) -> int:
        """0, 1, … `of` - 1, and again."""
        with self.lock:
            self.turns[what] += 1
            return (self.turns[what] - 1) % of if self.manners.forms else 0

    def take(self, order: Order) -> None:
        """Accepted, and paid from here on."""
        with self.lock:
            order.task = uuid.uuid4().hex
            order.ready_at = time.monotonic() + self.manners.takes(len(self.orders))
            self.orders.append(order)
            for index in range(order.n):
                path = f"/i/{order.task}/{index}"
                self.files[path] = picture(order, index, len(self.orders) + index)
                order.files.append(path)

    def order(self, task: str) -> Order | None:
        """By the task's id."""
        with self.lock:
            return next((order for order in self.orders if order.task == task), None)

    def links(self, order: Order) -> list[str]:
        """Public addresses; a signature that does not survive being rewritten comes with each."""
        return [f"{self.ports['cdn']}{path}?sig=a%2Fb%3D%3d+~c" for path in order.files]


# -- pictures ----------------------------------------------------------------------------------------------------------


def picture(order: Order, index: int, number: int) -> bytes:
    """A whole image of that size, unlike every other: PNG, or JPEG for Grok, now and then WebP by a mixed route."""
    mark = f"{order.task}-{index}"
    if order.asked.get("model", "").startswith("grok"):
        return _pillow("JPEG", order.size, comment=mark.encode())
    if order.provider == "maxapi.dev" and number % 3 == 0:
        return _pillow("WEBP", order.size, xmp=mark.encode())
    return png(order.size, mark)


def png(size: tuple[int, int], mark: str) -> bytes:
    """One grey, one bit a pixel."""
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", *size, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + _chunk(b"tEXt", b"m\0" + mark.encode()) + _grey(size) + _chunk(b"IEND", b"")


@cache
def _grey(size: tuple[int, int]) -> bytes:
    return _chunk(b"IDAT", zlib.compress(bytes(1 + (size[0] + 7) // 8) * size[1]))


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _pillow(kind: str, size: tuple[int, int], **extra: bytes) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size).save(out, kind, **extra)
    return out.getvalue()


# -- the four ports ----------------------------------------------------------------------------------------------------


class Answering(BaseHTTPRequestHandler):
    """One request. Keeps connections alive as real servers do."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    providers: Providers

    def setup(self) -> None:
        with self.providers.lock:
            self.providers.open += 1
        super().setup()

    def finish(self) -> None:
        try:
            super().finish()
        finally:
            with self.providers.lock:
                self.providers.open -= 1

    def say(self, body: Any, status: int = 200, kind: str = "application/json") -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        with contextlib.suppress(OSError):
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


class Desk(Answering, abc.ABC):
    """A request at one provider."""

    provider: str

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            self.require_key()
            if (asked := self.asked_together(body)) is not None:
                return self.say(asked)
            order = self.read_order(body)
        except RefusedError as why:
            self.providers.complaints.append(f"{self.provider} {self.path}: {why} in {body[:300]!r}")
            return self.refuse(400, str(why))
        with self.providers.lock:
            self.providers.posts.append((self.provider, order.prompt))
        self.providers.take(order)
        return self.answer(order)

    def do_GET(self) -> None:
        with self.providers.lock:
            self.providers.polls[self.provider] += 1
        path = self.path.partition("?")[0]
        if path in self.providers.files:  # a provider may hand out pictures itself
            return self.say(self.providers.files[path], 200, "image/png")
        order = self.providers.order(path.rpartition("/")[2])
        try:
            self.require_key()
            require(order is not None and self.is_poll(path, order), f"no such task: {self.path}")
        except RefusedError as why:
            self.providers.complaints.append(f"{self.provider} GET {self.path}: {why}")
            return self.refuse(404, str(why))
        special = self.providers.manners.poll(order)  # type: ignore[arg-type]
        return self.say(special if special is not None else self.state(order))  # type: ignore[arg-type]

    def asked_together(self, _body: bytes) -> Any:
        """The answer to a question about many tasks; None where it is no such question."""

    def require_key(self) -> None:
        require(self.headers.get("Authorization") == f"Bearer {KEYS[self.provider]}", "key")

    def read_json(self, body: bytes) -> Any:
        require(self.headers.get("Content-Type", "").partition(";")[0] == "application/json", "Content-Type")
        try:
            return json.loads(body)
        except ValueError:
            raise RefusedError("no JSON") from None

    def answer(self, order: Order) -> None:
        special = self.providers.manners.answer(order)
        if special == "cut":
            self.close_connection = True
            return None
        return self.say(special if isinstance(special, bytes) else self.accepted(order))

    def refuse(self, status: int, why: str) -> None:
        self.say({"code": status, "msg": why, "error": {"message": why}}, status)

    def is_done(self, order: Order) -> bool:
        return time.monotonic() >= order.ready_at

    @abc.abstractmethod
    def is_poll(self, path: str, order: Order) -> bool:
        """Whether this path asks about the order's task."""

    @abc.abstractmethod
    def read_order(self, body: bytes) -> Order:
        """The order; `RefusedError` where a rule of the page is broken."""

    @abc.abstractmethod
    def accepted(self, order: Order) -> Any:
        """The answer to a submit."""

    @abc.abstractmethod
    def state(self, order: Order) -> Any:
        """The answer to a poll."""


class IoDesk(Desk):
    """MaxAPI.io. The seeds' answers are minimal: no times, no `failure_reason`."""

    provider = "maxapi.io"

    def read_order(self, body: bytes) -> Order:
        require(self.path == "/api/v1/task/submit", self.path)
        return io_order(self.read_json(body))

    def accepted(self, order: Order) -> Any:
        return {"code": 0, "msg": "ok", "data": {"taskId": order.task}}

    def is_poll(self, path: str, order: Order) -> bool:
        return path == f"/api/v1/task/{order.task}"

    def state(self, order: Order) -> Any:
        data = {"taskId": order.task, "status": "SUCCESS", "input": order.asked}
        if not self.is_done(order):
            late = ("PENDING", "PROCESSING", "SUBMITTED")[self.providers.turn("io state", 3)]
            return {"code": 0, "msg": "ok", "data": data | {"status": late, "result": None}}
        return {
            "code": 0,
            "msg": "ok",
            "data": data | {"result": {"type": "image", "urls": self.providers.links(order)}},
        }


class DevDesk(Desk):
    """MaxAPI.dev. Its asynchronous shapes are not documented, so they take turns."""

    provider = "maxapi.dev"

    def read_order(self, body: bytes) -> Order:
        if self.path == "/v1/images/edits":
            return dev_order(*form(self.headers.get("Content-Type", ""), body))
        require(self.path == "/v1/images/generations", self.path)
        return dev_order(self.read_json(body))

    def accepted(self, order: Order) -> Any:
        place = f"{self.providers.ports[self.provider]}{self.path}/{order.task}"
        elsewhere = f"{self.providers.ports['cdn']}/steal-the-key/{order.task}"
        answers = (
            lambda: {"task_id": order.task, "poll_url": place},
            lambda: {"id": order.task, "status": "queued"},
            lambda: {"data": {"task_id": order.task}},
            lambda: {"task_id": order.task, "poll_url": elsewhere},
            lambda: {"created": 1, "data": self.bytes_of(order)},
        )
        return answers[self.providers.turn("dev accepted", 5)]()

    def is_poll(self, path: str, order: Order) -> bool:
        return path == f"/v1/images/{'edits' if order.references else 'generations'}/{order.task}"

    def state(self, order: Order) -> Any:
        if not self.is_done(order):
            return {
                "id": order.task,
                "status": ("queued", "processing", "dreaming")[self.providers.turn("dev state", 3)],
            }
        urls = [{"url": url} for url in self.providers.links(order)]
        answers = (
            lambda: {"status": "succeeded", "data": urls},
            lambda: {"status": "completed", "result": {"data": self.bytes_of(order)}},
            lambda: {"status": "success", "output": urls},
            lambda: {"status": "SUCCEEDED", "images": [{"url": [each["url"]]} for each in urls]},
            lambda: {"data": {"task_id": order.task, "status": "succeeded", "output": self.bytes_of(order)}},
        )
        return answers[self.providers.turn("dev done", 5)]()

    def bytes_of(self, order: Order) -> Any:
        return [{"b64_json": base64.b64encode(self.providers.files[path]).decode()} for path in order.files]


class AmDesk(Desk):
    """APIMaster: arrays in arrays; now and then the synchronous answer its own clients know."""

    provider = "apimaster"

    def read_order(self, body: bytes) -> Order:
        require(self.path == "/v1/images/generations", self.path)
        return am_order(self.read_json(body))

    def accepted(self, order: Order) -> Any:
        if self.providers.turn("am accepted", 4) == 3:
            return {"created": 1, "data": [{"url": url} for url in self.providers.links(order)]}
        return {"code": 200, "data": [{"status": "submitted", "task_id": order.task}]}

    def asked_together(self, body: bytes) -> Any:
        """The answer's shape is not documented, nor its order, nor what becomes of a task it does not tell of."""
        if self.path != "/v1/tasks/batch":
            return None
        asked = fields(self.read_json(body), "task_ids")["task_ids"]
        orders = [order for task in reversed(asked) if (order := self.providers.order(task)) is not None]
        require(len(orders) == len(asked) <= 20, "tasks that are not known here, or too many")
        with self.providers.lock:
            self.providers.polls[self.provider] += 1
        told = orders[: -1 if len(orders) > 1 and self.providers.turn("am together", 2) else None]
        return {"code": 200, "data": [self.state(order)["data"] for order in told]}

    def is_poll(self, path: str, order: Order) -> bool:
        return path == f"/v1/tasks/{order.task}"

    def state(self, order: Order) -> Any:
        if not self.is_done(order):
            return {"code": 200, "data": {"id": order.task, "status": "processing", "progress": "45%"}}
        (url,) = self.providers.links(order)
        images = ({"url": [url]}, {"url": url})[self.providers.turn("am done", 2)]
        return {"code": 200, "data": {"id": order.task, "status": "completed", "result": {"images": [images]}}}


class Cdn(Answering):
    """Public pictures. A stranger's key is an offence here, and so is a link that was rewritten."""

    provider = "cdn"

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        data = self.providers.files.get(path)
        if "Authorization" in self.headers or "steal" in path or (query and "sig=a%2Fb%3D%3d+~c" not in query):
            self.providers.complaints.append(f"cdn {self.path}: {self.headers.items()}")
            return self.say(b"no", 400, "text/plain")
        if data is None:
            return self.say(f"<html>not here: {self.path}</html>".encode(), 404, "text/html")
        return self.say(data, 200, "application/octet-stream")


class Port(ThreadingHTTPServer):
    """Many connections at once; a reset by a killed client is nothing to tell."""

    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: object) -> None:
        """A client that is gone."""


@contextlib.contextmanager
def serving() -> Iterator[Providers]:
    """Four ports, and the providers they keep together."""
    providers = Providers()
    with contextlib.ExitStack() as stack:
        for desk in (IoDesk, DevDesk, AmDesk, Cdn):
            handler = type(desk.__name__, (desk,), {"providers": providers})
            port = stack.enter_context(Port(("127.0.0.1", 0), handler))
            threading.Thread(target=port.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
            stack.callback(port.shutdown)
            providers.ports[desk.provider] = f"http://127.0.0.1:{port.server_address[1]}"
        providers.forget()
        yield providers
