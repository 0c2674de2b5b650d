"""The one task, how bells are sent, and the life of the crew that answers them."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from concurrent.futures import Future
from typing import Any

from celery import signals
from kombu.exceptions import OperationalError
from redis import Redis, RedisError

from jobs.errors import BadInput
from worker.celery import BELL_EXPIRES, KEY_PREFIX, app, exiting, queue_of, settings_or_exit
from worker.lanes.celery_runtime import PROCESS
from worker.lanes.worker import lanes_of
from worker.lanes.worker_thread import WorkerThread
from worker.runtime.telemetry import configure, emit
from worker.services import build

NEEDS_POSTGRES = (
    "database_url: a cluster's workers share a PostgreSQL database, and this is a SQLite file. "
    "Set LIGHTFAST_DATABASE_URL, or use `lightfast run`, which needs no workers."
)


@app.task(name="ring", ignore_result=True)
def ring(lane: str) -> None:
    """There may be work in `lane`: works one shift there, or wakes the one that is at work."""
    if PROCESS.answer(lane):
        BELLS.ring(lane)


def ring_lanes(lanes: Iterable[str], *, wait: float = 5.0) -> bool:
    """Rings, and waits so many seconds at most; False when Redis did not take the bells, which costs only time."""
    rung: Future[bool] = Future()
    ringer = threading.Thread(target=lambda: rung.set_result(_publish(tuple(lanes))), name="bells", daemon=True)
    ringer.start()
    try:
        return rung.result(wait)
    except TimeoutError:
        return False


def _publish(lanes: Iterable[str]) -> bool:
    """Sends the bells. A Redis that hangs is given up after about half a minute, one that is away at once."""
    connection = app.connection_for_write()
    try:
        for lane in lanes:
            ring.apply_async((lane,), expires=BELL_EXPIRES, retry=False)
    except (*connection.connection_errors, *connection.channel_errors, OperationalError) as error:
        emit("bell_not_rung", level="warning", problem=type(error).__name__)
        return False
    return True


def bells_wait(redis_url: str, queues: Iterable[str]) -> bool:
    """Whether bells lie in these queues now. A Redis that is away has none."""
    try:
        with Redis.from_url(redis_url, socket_timeout=2, socket_connect_timeout=2) as asked:
            return any(asked.llen(KEY_PREFIX + queue) for queue in queues)
    except RedisError:
        return False


class WakeupPublisher:
    """Rings from a thread of its own: a Redis that hangs holds up no shift. A lane waiting to be rung is rung once."""

    def __init__(self) -> None:
        self._waiting: set[str] = set()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def ring(self, lane: str) -> None:
        """Rings soon; returns at once."""
        with self._changed:
            self._waiting.add(lane)
            self._changed.notify()
            if self._thread is None:
                self._thread = threading.Thread(target=self._ring_for_ever, name="bell-rope", daemon=True)
                self._thread.start()

    def _ring_for_ever(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                lanes, self._waiting = self._waiting, set()
            _publish(sorted(lanes))


BELLS = WakeupPublisher()


@signals.worker_init.connect(weak=False)
def start_crew(sender: Any, **_: object) -> None:
    """Starts this process's crew before the broker is asked for, which may be away."""
    settings = settings_or_exit()
    configure(settings.log)
    served = set(sender.app.amqp.queues.consume_from)
    lanes = [lane for lane in lanes_of(settings.accounts) if queue_of(lane) in served]
    with exiting():
        if settings.database_path is not None:
            raise BadInput(NEEDS_POSTGRES)
        crew = WorkerThread(lambda: build(settings, ring=BELLS.ring))
    PROCESS.start(
        crew,
        lanes,
        drain_seconds=settings.drain_seconds,
        heartbeat_file=settings.heartbeat_file,
        bells_wait=lambda: bells_wait(settings.redis_url, served),
    )


@signals.worker_shutting_down.connect(weak=False)
def drain_crew(**_: object) -> None:
    """SIGTERM, however often: takes no more work and lets what is in the air come down."""
    PROCESS.begin_drain()


@signals.worker_shutdown.connect(weak=False)
def await_crew(**_: object) -> None:
    """The process ends when its crew has drained."""
    PROCESS.finish_drain()
