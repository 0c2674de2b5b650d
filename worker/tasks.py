"""The one task, how wakeups are sent, and the life of the worker that answers them."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from concurrent.futures import Future
from typing import Any

from celery import signals
from kombu.exceptions import OperationalError
from redis import RedisError

from jobs.errors import BadInput
from jobs.settings.redis_address import read_redis_url
from worker import broker
from worker.celery import KEY_PREFIX, WAKEUP_EXPIRES, app, exiting, queue_of, settings_or_exit
from worker.lanes.celery_runtime import PROCESS
from worker.lanes.worker import lanes_of
from worker.lanes.worker_thread import WorkerThread
from worker.runtime.garbage import collect_rarely
from worker.runtime.telemetry import configure, emit, is_telling
from worker.services import build

#: Seconds for each answer to a look at Redis.
_PATIENCE = 2.0
NEEDS_POSTGRES = (
    "database_url: a cluster's workers share a PostgreSQL database, and this is a SQLite file. "
    "Set LIGHTFAST_DATABASE_URL, or use `lightfast run`, which needs no workers."
)


@app.task(name="wake", ignore_result=True)
def wake(lane: str) -> None:
    """There may be work in `lane`: runs it for a while, or wakes it where it runs."""
    if PROCESS.answer(lane):
        WAKEUPS.wake(lane)


def wake_lanes(lanes: Iterable[str], *, wait: float = 5.0) -> bool:
    """Sends wakeups, and waits `wait` seconds at most; False when Redis did not take them, which costs only time."""
    woken: Future[bool] = Future()
    publishing = threading.Thread(target=lambda: woken.set_result(_publish(tuple(lanes))), name="wakeups", daemon=True)
    publishing.start()
    try:
        return woken.result(wait)
    except TimeoutError:
        return False


def _publish(lanes: Iterable[str], times: int = 1) -> bool:
    """Sends the wakeups. A Redis that hangs is given up after about half a minute, one that is away at once.

    `times`: that it is tried without one that worked, this time included.
    """
    connection = app.connection_for_write()
    try:
        for lane in lanes:
            wake.apply_async((lane,), expires=WAKEUP_EXPIRES, retry=False)
    except (*connection.connection_errors, *connection.channel_errors, OperationalError) as error:
        if is_telling(times):
            emit("wakeup_not_published", level="warning", times=times, problem=type(error).__name__)
        return False
    return True


def wakeups_wait(redis_url: str, queues: Iterable[str]) -> bool:
    """Whether wakeups wait in these queues now. A Redis that is away has none."""
    try:
        with broker.client(read_redis_url(redis_url), seconds=_PATIENCE) as asked:
            return any(asked.llen(KEY_PREFIX + queue) for queue in queues)
    except (RedisError, OSError):
        return False


class WakeupPublisher:
    """Sends wakeups from a thread of its own, so a Redis that hangs holds up no lane. Each lane waits once."""

    def __init__(self) -> None:
        self._waiting: set[str] = set()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def wake(self, lane: str) -> None:
        """Sends it soon; returns at once."""
        with self._changed:
            self._waiting.add(lane)
            self._changed.notify()
            if self._thread is None:
                self._thread = threading.Thread(target=self._publish_for_ever, name="wakeup-publisher", daemon=True)
                self._thread.start()

    def _publish_for_ever(self) -> None:
        failed = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                lanes, self._waiting = self._waiting, set()
            failed = 0 if _publish(sorted(lanes), failed + 1) else failed + 1


WAKEUPS = WakeupPublisher()


@signals.worker_init.connect(weak=False)
def start_worker(sender: Any, **_: object) -> None:
    """Starts this process's worker before the broker is asked for, which may be away."""
    settings = settings_or_exit()
    configure(settings.log)
    served = set(sender.app.amqp.queues.consume_from)
    lanes = [lane for lane in lanes_of(settings.accounts) if queue_of(lane) in served]
    with exiting():
        if settings.database_path is not None:
            raise BadInput(NEEDS_POSTGRES)
        _demand_usable_broker(settings.redis_url)
        worker = WorkerThread(lambda: build(settings, wake=WAKEUPS.wake))
    collect_rarely()
    PROCESS.start(
        worker,
        lanes,
        drain_seconds=settings.drain_seconds,
        heartbeat_file=settings.heartbeat_file,
        wakeups_wait=lambda: wakeups_wait(settings.redis_url, served),
    )


@signals.beat_init.connect(weak=False)
def start_beat(**_: object) -> None:
    """Beat ends with the same words as a worker where the broker cannot serve."""
    with exiting():
        _demand_usable_broker(settings_or_exit().redis_url)


def _demand_usable_broker(redis_url: str) -> None:
    if why := broker.unusable(read_redis_url(redis_url), seconds=_PATIENCE):
        raise BadInput(f"redis_url: {why}")


@signals.worker_shutting_down.connect(weak=False)
def drain_worker(**_: object) -> None:
    """SIGTERM, once or several times: takes no more work, and waits for what is on its way."""
    PROCESS.begin_drain()


@signals.worker_shutdown.connect(weak=False)
def await_worker(**_: object) -> None:
    """The process ends when its worker has drained."""
    PROCESS.finish_drain()
