"""The web server: is it alive, is it ready, what does it count. Started by `lightfast serve`.

Its port may be open to the world, since providers call back: whoever comes, and however many, it stays small. The
metrics name batches and money, so they have a listener of their own (docs/decisions/metrics_port.md).
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse

from jobs.errors import LightfastError
from jobs.ledger import Ledger, open_ledger
from jobs.policy.access import Role
from jobs.results.account_report import accounts_document, read_accounts
from jobs.results.sentences import STAND_IN
from jobs.settings.model import Settings
from web.addresses import Addresses, addresses_of
from web.api import batches, images, new_batches, operations, results, retry, rows, unknown
from web.api import events as event_routes
from web.api.problems import MOST_FAULTS
from web.callbacks.buffer import CallbackBuffer
from web.callbacks.connection_limits import MOST, LimitedConnection
from web.callbacks.hooks import add_hooks
from web.callbacks.open_files import BACKLOG, make_room
from web.docs.routes import add_docs
from web.door import Door, wake_submits
from web.events import BatchEvents
from web.figures import SharedFigures
from web.kept_files import KeptFiles
from web.metrics import LedgerMetrics
from web.one_time_link import OneTimeLink
from web.openai import batches as openai_batches
from web.openai import files as openai_files
from web.openai import models as openai_models
from web.openai.errors import AsciiJSON, OpenAIError, as_openai, is_openai, unreadable
from web.openai.runner import BatchRunner
from web.pages.setup import add_pages
from web.pictures import StoredPictures
from web.planners import Planners
from web.shared import SharedAnswer
from web.streams import LongAnswers
from web.tokens import TokenCheck
from web.uploads import Uploads
from worker.archives.reading import ArchiveReader
from worker.runtime.telemetry import configure, emit, is_telling

#: Seconds for which a probe's answer holds, and which a probe is kept waiting at most.
PROBED = 1.0
PROBE_PATIENCE = 5.0
#: Seconds that a scrape is kept waiting at most. Prometheus gives up after ten.
SCRAPE_PATIENCE = 9.0
LOOPBACK = "127.0.0.1"
ANY = ("0.0.0.0", "::")  # noqa: S104  only compared
#: What is served on the main port, and for whom.
SERVED = {
    "/livez": "answers while it lives",
    "/readyz": "answers 200 while the database does, and takes writes",
    "/hooks/…": "callbacks of maxapi.io, where an account has a webhook_base_url",
    "/metrics": "counts, for Prometheus; with a token",
    "/": "pages for people; they log in with a token",
    "/api/v1/…": "batches for programs; with a token",
    "/v1/…": "OpenAI's files and batches; with a token",
    "/docs": "what the API can do",
}
TWO_WAYS = "the metrics need a viewer's or operator's token (Authorization: Bearer), or lightfast serve --metrics-port"
NOT_AT_ONCE = (
    "images are made by batches here: upload a file of requests (POST /v1/files, purpose batch), then POST /v1/batches"
)
AWAY = "not ready: the database does not answer"


class WebLedger:
    """The ledger behind the pages: opened when it can be, and asked each time whether it is still there."""

    def __init__(self, open_: Callable[[], Ledger]) -> None:
        self._open = open_
        self._ledger: Ledger | None = None
        self._troubles = 0  # that were met since all was well
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
                self._ledger.reports.archives = ArchiveReader
            return self._ledger

    def well(self) -> None:
        """It answers and takes writes."""
        self._troubles = 0

    def trouble(self, problem: str) -> None:
        """It does not: a line of the log, but not for each probe."""
        self._troubles += 1
        if is_telling(self._troubles):
            emit("not_ready", level="warning", times=self._troubles, problem=problem)

    def close(self) -> None:
        """Lets go of the ledger."""
        if self._ledger is not None:
            self._ledger.close()


def make_app(
    web_ledger: WebLedger,
    wake: Callable[[str], object] = lambda _lane: None,
    settings: Settings | None = None,
    *,
    addresses: Addresses = Addresses(),  # noqa: B008  frozen
    link: OneTimeLink | None = None,
    max_stall: float | None = None,
) -> FastAPI:
    """What the main port answers: probes, callbacks, programs and people.

    `wake`: wakes a lane. `link`: as `add_pages` has it. `max_stall`: as `Listen` has it.
    """
    settings = settings or Settings()
    buffer = CallbackBuffer(web_ledger.opened, time.time, wake)
    ready = SharedAnswer(lambda: _problem(web_ledger) or _unwritable(web_ledger), least=PROBED)
    counts, tokens = SharedAnswer(lambda: _page(web_ledger)), TokenCheck(web_ledger.opened)
    figures, answers = SharedFigures(web_ledger.opened), LongAnswers()
    events = BatchEvents(web_ledger.opened, figures)
    accounts = SharedAnswer(lambda: _accounts(web_ledger.opened(), settings), least=PROBED)
    files, planners = KeptFiles(settings), Planners()
    runner = BatchRunner(
        open=web_ledger.opened,
        files=files,
        settings=settings,
        wake_submits=lambda: wake_submits(web_ledger.opened(), wake),
        max_stall=max_stall,
    )

    @contextlib.asynccontextmanager
    async def life(_app: FastAPI) -> AsyncIterator[None]:
        runner.start()
        yield
        first = (planners, runner, buffer, ready, counts, tokens, events, figures, accounts, answers)
        for each in (*first, app.state.pages):
            each.close()

    app = _bare_app(life)

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
    async def metrics(request: Request) -> Response:
        if "authorization" not in request.headers:
            return PlainTextResponse(f"{TWO_WAYS}\n", status_code=401, headers={"WWW-Authenticate": "Bearer"})
        await tokens.holder(request, Role.VIEWER, Role.OPERATOR)
        return await _counts_of(counts)

    add_hooks(app, buffer)
    app.state.door = Door(
        open=web_ledger.opened,
        tokens=tokens,
        wake=wake,
        settings=settings,
        figures=figures,
        events=events,
        accounts=accounts,
        answers=answers,
        pictures=StoredPictures(web_ledger.opened),
        files=files,
        uploads=Uploads(),
        planners=planners,
        wake_runner=runner.wake,
    )
    own = (new_batches, batches, rows, results, images, event_routes, retry, unknown, operations)
    for routes in (*(part.routes for part in own), openai_files.routes, openai_batches.routes, openai_models.routes):
        app.include_router(routes)
    _answer_errors(app)
    add_docs(app)
    add_pages(app, app.state.door, addresses, link)
    return app


def _accounts(ledger: Ledger, settings: Settings) -> dict[str, object]:
    return accounts_document(read_accounts(ledger, settings, time.time() + ledger.clock_offset()), settings)


def _answer_errors(app: FastAPI) -> None:
    """Errors of OpenAI's API in its form, all others in FastAPI's."""

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        if is_openai(request):
            return as_openai(error)
        return AsciiJSON({"detail": error.detail}, status_code=error.status_code, headers=error.headers)

    @app.exception_handler(RequestValidationError)
    async def unread(request: Request, error: RequestValidationError) -> Response:
        if is_openai(request):
            return unreadable(error)
        # Without what was sent: it may be what no JSON can hold.
        told = [{name: each[name] for name in ("type", "loc", "msg")} for each in error.errors()[:MOST_FAULTS]]
        return AsciiJSON({"detail": told}, status_code=422)

    @app.exception_handler(ClientDisconnect)
    async def broken_off(_request: Request, _error: ClientDisconnect) -> Response:
        return Response(status_code=400)  # nobody reads it; without it, a traceback in the log

    @app.api_route("/v1/images/{rest:path}", methods=["POST"], include_in_schema=False)
    async def no_images_at_once(rest: str) -> Response:  # noqa: ARG001  any of them
        return as_openai(OpenAIError(404, NOT_AT_ONCE))


def make_metrics_app(web_ledger: WebLedger) -> FastAPI:
    """What the metrics port answers."""
    page = SharedAnswer(lambda: _page(web_ledger))

    @contextlib.asynccontextmanager
    async def life(_app: FastAPI) -> AsyncIterator[None]:
        yield
        page.close()

    app = _bare_app(life)

    @app.get("/metrics")
    async def metrics() -> Response:
        return await _counts_of(page)

    return app


async def _counts_of(page: SharedAnswer[bytes | str]) -> Response:
    try:
        told = await page.answer(SCRAPE_PATIENCE)
    except TimeoutError:
        told = AWAY
    if isinstance(told, str):
        return PlainTextResponse(f"{told}\n", status_code=503)
    return Response(told, media_type=CONTENT_TYPE_LATEST)


def _bare_app(life: Callable[[FastAPI], contextlib.AbstractAsyncContextManager[None]]) -> FastAPI:
    return FastAPI(title="Lightfast", docs_url=None, redoc_url=None, openapi_url=None, lifespan=life)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listen:
    """Where it listens, and to whom. `metrics_port`: None: there is none."""

    port: int = 8000
    host: str = LOOPBACK
    metrics_port: int | None = None
    metrics_host: str = LOOPBACK
    host_names: Sequence[str] = ()  # that pages answer to, beside those of the listener
    trust_proxy: str | None = None  # the address of a proxy whose forwarding headers are believed; None: nobody's are
    max_stall: float | None = None  # seconds that a batch of OpenAI's API waits for a person; None: for its window


def serve(settings: Settings, where: Listen, *, ledger: str = "") -> None:
    """Serves until SIGTERM. `ledger`: how people call it."""
    configure(settings.log)
    with _opened(settings, where, _wake_of(settings), ledger) as (server, listener):
        server.run(sockets=[listener])


def _for_people(settings: Settings, where: Listen, web_ledger: WebLedger) -> tuple[Addresses, OneTimeLink | None]:
    """To which names pages answer, and the link that opens them while there is no token; it is shown here."""
    hooks = [account.webhook_base_url for account in settings.accounts.values() if account.webhook_base_url]
    addresses = addresses_of(where.host, where.host_names, hooks)
    if hooks or not addresses.is_loopback:
        return addresses, None
    link = OneTimeLink()
    if _is_wanted(web_ledger) and (sys.stderr.isatty() or settings.log == "text"):
        address = f"{address_of(where.host, where.port)}{link.path()}"
        sys.stderr.write(f"no token yet: open  {address}  (it works once)\n")
    return addresses, link


def _is_wanted(web_ledger: WebLedger) -> bool:
    """Whether the one-time link would open anything, as far as can be told: the ledger may be away."""
    try:
        return not web_ledger.opened().access.is_any()
    except LightfastError:
        return True


@contextlib.contextmanager
def serving(settings: Settings, where: Listen, wake: Callable[[str], object], *, ledger: str = "") -> Iterator[None]:
    """Serves in a thread, beside what works in this process. `wake`: wakes a lane, from any thread."""
    with _opened(settings, where, wake, ledger) as (server, listener), _in_a_thread(server, listener, "web"):
        yield


@contextlib.contextmanager
def _opened(
    settings: Settings, where: Listen, wake: Callable[[str], object], ledger: str
) -> Iterator[tuple[uvicorn.Server, socket.socket]]:
    """The main port's server; the metrics are served meanwhile."""
    make_room(MOST)
    web_ledger = WebLedger(lambda: open_ledger(settings.database_url))
    with contextlib.ExitStack() as opened:
        opened.callback(web_ledger.close)
        listener = opened.enter_context(listen(where.host, where.port, "--port"))
        served = {address_of(where.host, where.port): SERVED}
        if where.metrics_port is not None:
            metrics = opened.enter_context(listen(where.metrics_host, where.metrics_port, "--metrics-port"))
            metrics_server = _server(make_metrics_app(web_ledger), where.metrics_host, where.metrics_port)
            opened.enter_context(_in_a_thread(metrics_server, metrics, "metrics"))
            served[address_of(where.metrics_host, where.metrics_port)] = {"/metrics": "counts, for Prometheus"}
        announce(served, ledger, sandbox=settings.is_sandbox)
        addresses, link = _for_people(settings, where, web_ledger)
        app = make_app(web_ledger, wake, settings, addresses=addresses, link=link, max_stall=where.max_stall)
        how = server_of(app, port=where.port, host=where.host, trust_proxy=where.trust_proxy)
        yield WebServer(how, app.state.door), listener


class WebServer(uvicorn.Server):
    """A server that ends, when it is told to stop, what would never end by itself."""

    def __init__(self, config: uvicorn.Config, door: Door) -> None:
        super().__init__(config)
        self._door = door

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Ends events, uploads that are coming in, and manifests at work; waits for other answers for some seconds."""
        self._door.events.end()
        self._door.planners.end()
        for each in list(self.server_state.connections):
            if isinstance(each, LimitedConnection) and each.takes_upload:
                each.leave()
        await super().shutdown(sockets)


def _server(app: FastAPI, host: str, port: int) -> uvicorn.Server:
    return uvicorn.Server(server_of(app, port=port, host=host))


@contextlib.contextmanager
def _in_a_thread(server: uvicorn.Server, listener: socket.socket, name: str) -> Iterator[None]:
    """Serves in a thread of its own: signals are the main thread's."""
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name=name)
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join()


def listen(host: str, port: int, option: str) -> socket.socket:
    """A socket that listens. Where the port is taken, uvicorn would end with a code that means something else."""
    try:
        listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno else str(error)
        raise LightfastError(f"cannot listen on {host} port {port}: {reason}. {option} takes another.") from error
    # Its connections inherit this. asyncio sets it for sockets that name their protocol alone, which this does not:
    # the body of an answer would wait up to 40 ms, until the reader has acknowledged its head.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def address_of(host: str, port: int) -> str:
    """Where a listener can be reached, as people write it."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def announce(served: Mapping[str, Mapping[str, str]], ledger: str, *, sandbox: bool) -> None:
    """Says where it listens, and what is there: to a person at a terminal in lines, else as events."""
    if sandbox and sys.stderr.isatty():
        sys.stderr.write(f"{STAND_IN}\n")
    for address, paths in served.items():
        if not sys.stderr.isatty():
            emit("listening", address=address, paths=" ".join(paths), sandbox=sandbox)
            continue
        everywhere = any(address.startswith(address_of(host, 0).removesuffix("0")) for host in ANY)
        sys.stderr.write(f"listening on {address}{', every address of this machine' if everywhere else ''}\n")
        sys.stderr.writelines(f"  {name:10}  {what}\n" for name, what in paths.items())
    if sys.stderr.isatty():
        sys.stderr.write(f"ledger        {ledger}\nCtrl-C ends it.\n")


def server_of(app: FastAPI, *, port: int, host: str, trust_proxy: str | None = None) -> uvicorn.Config:
    """How the pages are served. `trust_proxy`: as in `serve`; uvicorn by itself believes whoever is at this machine."""
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        http=LimitedConnection,
        loop="web.callbacks.open_files:event_loop",
        backlog=BACKLOG,
        ws="none",
        log_level="error",  # a line for each bad request would let strangers fill the disk
        access_log=False,
        server_header=False,
        proxy_headers=trust_proxy is not None,
        forwarded_allow_ips=trust_proxy,
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
        web_ledger.trouble(type(error).__name__)
        return AWAY
    if why is None:
        web_ledger.well()
        return None
    web_ledger.trouble(why)
    return f"not ready: the database {why}"


def _problem(web_ledger: WebLedger) -> str | None:
    """What keeps the ledger from answering; details go to the log, which strangers do not read."""
    try:
        web_ledger.ledger()
    except LightfastError as error:
        web_ledger.trouble(str(error))
        return f"not ready: {type(error).__name__}"
    except Exception as error:  # noqa: BLE001  a probe answers whatever the database does
        web_ledger.trouble(type(error).__name__)
        return AWAY
    return None
