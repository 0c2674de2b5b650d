"""A real HTTP server that is sent messages: it keeps each, and answers as a test says."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

from standardwebhooks import Webhook

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@dataclass
class Received:
    """One request."""

    path: str
    headers: dict[str, str]
    body: str

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def is_signed(self, now: float) -> bool:
        """By the header's own figures; the library verifies only messages of the last five minutes."""
        import datetime as dt  # noqa: PLC0415  here alone

        at = int(self.headers["webhook-timestamp"])
        signed = Webhook(SECRET).sign(self.headers["webhook-id"], dt.datetime.fromtimestamp(at, dt.UTC), self.body)
        return at == int(now) and signed == self.headers["webhook-signature"]


@dataclass
class Receiver:
    """`status` is asked for each answer. Where it is `hung`, an answer begins and does not end until it is let go."""

    status: Callable[[str], int] = lambda _path: 200
    got: list[Received] = field(default_factory=list)
    hung: set[str] = field(default_factory=set)  # paths
    let_go: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.got.append(Received(self.path, headers, body))
                if self.path in receiver.hung:
                    self.dribble()
                    return
                self.send_response(receiver.status(self.path))
                self.send_header("Content-Length", "0")
                self.end_headers()

            def dribble(self) -> None:
                """A header now and then, and never the last: no time-out between two bytes ends that."""
                self.wfile.write(b"HTTP/1.1 200 OK\r\n")
                self.close_connection = True
                with contextlib.suppress(OSError):
                    while not receiver.let_go.wait(0.2):  # real time: how often a byte comes
                        self.wfile.write(b"X-More: to come\r\n")

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.let_go.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def at(self, path: str) -> list[Received]:
        return [one for one in self.got if one.path == path]
