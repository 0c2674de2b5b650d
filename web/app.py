"""The web door: is it alive, is it ready, what does it count. Started by `lightfast serve`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI, Response
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import PlainTextResponse

from jobs.errors import LightfastError
from jobs.ledger import Ledger, open_ledger
from jobs.settings import Settings
from web.hooks import add_hooks
from web.metrics import Counts
from worker.telemetry import emit


class Door:
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
        ledger.clock_offset() if not ledger.is_sqlite else ledger.batches()
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


def make_app(door: Door, ring: Callable[[str], object] = lambda _lane: None) -> FastAPI:
    """The pages, plain functions since the ledger blocks, and the path for callbacks. `ring`: wakes a lane."""
    app = FastAPI(title="Lightfast", docs_url=None, redoc_url=None, openapi_url=None)
    registry = CollectorRegistry()
    registry.register(Counts(door.ledger))

    @app.get("/livez")
    def livez() -> PlainTextResponse:
        return PlainTextResponse("ok\n")

    @app.get("/readyz")
    def readyz() -> PlainTextResponse:
        problem = _problem(door)
        return PlainTextResponse(f"{problem or 'ready'}\n", status_code=503 if problem else 200)

    @app.get("/metrics")
    def metrics() -> Response:
        if problem := _problem(door):
            return PlainTextResponse(f"{problem}\n", status_code=503)
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    add_hooks(app, door.opened, time.time, ring)
    return app


def serve(settings: Settings, *, port: int = 8000, host: str = "0.0.0.0") -> None:  # noqa: S104  a probe comes from outside
    """Serves the pages until SIGTERM."""
    door = Door(lambda: open_ledger(settings.database_url))
    try:
        uvicorn.run(
            make_app(door, _ring_of(settings)),
            host=host,
            port=port,
            log_level="warning",
            access_log=False,
            server_header=False,
        )
    finally:
        door.close()


def _ring_of(settings: Settings) -> Callable[[str], object]:
    """How lanes are woken: by bells on a cluster; on SQLite the one run looks for itself every few seconds."""
    if settings.database_path is not None:
        return lambda _lane: None
    from worker.tasks import BELLS  # noqa: PLC0415  Celery, only where there is a cluster

    return BELLS.ring


def _problem(door: Door) -> str | None:
    """What keeps the ledger from answering; details go to the log, which strangers do not read."""
    try:
        door.ledger()
    except LightfastError as error:
        emit("not_ready", level="warning", problem=str(error))
        return f"not ready: {type(error).__name__}"
    except Exception as error:  # noqa: BLE001  a probe answers whatever the database does
        emit("not_ready", level="warning", problem=type(error).__name__)
        return "not ready: the database does not answer"
    return None
