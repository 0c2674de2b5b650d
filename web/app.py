"""The web server: is it alive, is it ready, what does it count. Started by `lightfast serve`.

Its port may be open to the world, since providers call back: whoever comes, and however many, it stays small.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable

import uvicorn
from fastapi import FastAPI, Response
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import PlainTextResponse

from jobs.errors import LightfastError
from jobs.ledger import Ledger, open_ledger
from jobs.settings.model import Settings
from web.callbacks.buffer import CallbackBuffer
from web.callbacks.connection_limits import LimitedConnection
from web.callbacks.hooks import add_hooks
from web.metrics import LedgerMetrics
from web.shared import SharedAnswer
from worker.runtime.telemetry import configure, emit

#: Seconds for which a probe's answer holds, and which a probe is kept waiting at most.
PROBED = 1.0
PROBE_PATIENCE = 5.0
#: Seconds that a scrape is kept waiting at most. Prometheus gives up after ten.
SCRAPE_PATIENCE = 9.0
ANY = ("0.0.0.0", "::")  # noqa: S104  only compared
#: What is served, and for whom.
SERVED = {
    "/livez": "answers while it lives",
    "/readyz": "answers 200 while the database does, and takes writes",
    "/metrics": "counts, for Prometheus",
    "/hooks/…": "callbacks of maxapi.io, where an account has a webhook_base_url",
}
AWAY = "not ready: the database does not answer"


class WebLedger:
    """The ledger behind the pages: opened when it can be, and asked each time whether it is still there."""

    def __init__(self, open_: Callable[[], Ledger]) -> None:
        self._open = open_
        self._ledger: Ledger | None = None
        self._lock = threading.Lock()

    def ledger(self) -> Ledger:
        """The ledger, if it answers.

        Raises:
            LightfastError: It cannot be reached, or its schema is not ours.
        """
        ledger = self.opened()
        ledger.clock_offset() if not ledger.is_sqlite else ledger.batches.all()
        return ledger

    def opened(self) -> Ledger:
        """The ledger, opened once; whether it answers now is not asked."""
        with self._lock:
            if self._ledger is None:
                self._ledger = self._open()
            return self._ledger

    def close(self) -> None:
        """Lets go of the ledger."""
        if self._ledger is not None:
            self._ledger.close()


def make_app(web_ledger: WebLedger, wake: Callable[[str], object] = lambda _lane: None) -> FastAPI:
    """The pages, and the path for callbacks. `wake`: wakes a lane."""
    buffer = CallbackBuffer(web_ledger.opened, time.time, wake)
    ready = SharedAnswer(lambda: _problem(web_ledger) or _unwritable(web_ledger), least=PROBED)
    page = SharedAnswer(lambda: _page(web_ledger))

    @contextlib.asynccontextmanager
    async def life(_app: FastAPI) -> AsyncIterator[None]:
        yield
        buffer.close()
        ready.close()
        page.close()

    app = FastAPI(title="Lightfast", docs_url=None, redoc_url=None, openapi_url=None, lifespan=life)

    @app.get("/livez")
    async def livez() -> PlainTextResponse:
        return PlainTextResponse("ok\n")

    @app.get("/readyz")
    async def readyz() -> PlainTextResponse:
        try:
            problem = await ready.answer(PROBE_PATIENCE)
        except TimeoutError:
            problem = AWAY
        return PlainTextResponse(f"{problem or 'ready'}\n", status_code=503 if problem else 200)

    @app.get("/metrics")
    async def metrics() -> Response:
        try:
            told = await page.answer(SCRAPE_PATIENCE)
        except TimeoutError:
            told = AWAY
        if isinstance(told, str):
            return PlainTextResponse(f"{told}\n", status_code=503)
        return Response(told, media_type=CONTENT_TYPE_LATEST)

    add_hooks(app, buffer)
    return app


def serve(settings: Settings, *, port: int = 8000, host: str = "0.0.0.0", ledger: str = "") -> None:  # noqa: S104  a probe comes from outside
    """Serves the pages until SIGTERM. `ledger`: how people call it."""
    configure(settings.log)
    web_ledger = WebLedger(lambda: open_ledger(settings.database_url))
    try:
        with _listener(host, port) as listener:
            announce(host, port, ledger)
            uvicorn.Server(server_of(make_app(web_ledger, _wake_of(settings)), port=port, host=host)).run(
                sockets=[listener]
            )
    finally:
        web_ledger.close()


def _listener(host: str, port: int) -> socket.socket:
    """A socket that listens. Where the port is taken, uvicorn would end with a code that means something else."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno else str(error)
        raise LightfastError(f"cannot listen on {host} port {port}: {reason}. --port takes another.") from error


def announce(host: str, port: int, ledger: str) -> None:
    """Says where it listens, and what is there: to a person at a terminal in lines, else as an event."""
    if not sys.stderr.isatty():
        emit("listening", host=host, port=port, paths=" ".join(SERVED))
        return
    everywhere = f"http://localhost:{port}, and on every address of this machine"
    lines = {**SERVED, "ledger": ledger}
    sys.stderr.write(f"listening on {everywhere if host in ANY else f'http://{host}:{port}'}\n")
    sys.stderr.writelines(f"  {name:10}  {what}\n" for name, what in lines.items())
    sys.stderr.write("Ctrl-C ends it.\n")


def server_of(app: FastAPI, *, port: int, host: str) -> uvicorn.Config:
    """How the pages are served."""
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        http=LimitedConnection,
        ws="none",
        log_level="error",  # a line for each bad request would let strangers fill the disk
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=5,
    )


def _wake_of(settings: Settings) -> Callable[[str], object]:
    """How lanes are woken: by wakeups on a cluster; on SQLite the one run looks by itself every few seconds."""
    if settings.database_path is not None:
        return lambda _lane: None
    from worker.tasks import WAKEUPS  # noqa: PLC0415  Celery, only where there is a cluster

    return WAKEUPS.wake


def _page(web_ledger: WebLedger) -> bytes | str:
    """What Prometheus reads, or what keeps the ledger from answering."""
    if problem := _problem(web_ledger):
        return problem
    registry = CollectorRegistry()
    registry.register(LedgerMetrics(web_ledger.opened))
    return generate_latest(registry)


def _unwritable(web_ledger: WebLedger) -> str | None:
    """Why the ledger takes no writes: work stands still and callbacks are lost, however well it is read."""
    try:
        why = web_ledger.opened().unwritable()
    except Exception as error:  # noqa: BLE001  as below
        emit("not_ready", level="warning", problem=type(error).__name__)
        return AWAY
    if why is None:
        return None
    emit("not_ready", level="warning", problem=why)
    return f"not ready: the database {why}"


def _problem(web_ledger: WebLedger) -> str | None:
    """What keeps the ledger from answering; details go to the log, which strangers do not read."""
    try:
        web_ledger.ledger()
    except LightfastError as error:
        emit("not_ready", level="warning", problem=str(error))
        return f"not ready: {type(error).__name__}"
    except Exception as error:  # noqa: BLE001  a probe answers whatever the database does
        emit("not_ready", level="warning", problem=type(error).__name__)
        return AWAY
    return None
