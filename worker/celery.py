"""The binding to Celery: `celery -A worker worker` and `celery -A worker beat` find `app` here.

A message is a wakeup: it carries a lane's name and nothing worth losing. So messages are acknowledged early, expire
soon, are never retried, and have no result, ETA or time limit; everything that counts is in the ledger.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import sys
import traceback
from collections.abc import Iterator
from typing import Any

from celery import Celery, signals
from celery.beat import SchedulingError
from kombu.entity import Exchange, Queue
from kombu.exceptions import OperationalError

from jobs.errors import LightfastError
from jobs.log_events import Level
from jobs.settings.model import Settings
from jobs.settings.redis_address import read_redis_url
from jobs.settings.sources import load_settings
from worker.broker import celery_settings
from worker.lanes.celery_runtime import BEAT
from worker.lanes.worker import lanes_of
from worker.runtime import telemetry

#: One for each kind of lane, so that a process may serve some of them only: `--queues copy`.
QUEUES = ("submit", "poll", "copy", "sweep")
#: Every name in Redis begins with it, so that it can be shared.
KEY_PREFIX = "lightfast:"
#: Seconds by the sender's clock for which a wakeup is valid: were they fewer, clocks that differ would swallow it.
WAKEUP_EXPIRES = 60
#: Seconds after which Redis delivers a wakeup again that a dead worker had not acknowledged. Lane runs end after 20 s.
VISIBILITY_TIMEOUT = 300


def queue_of(lane: str) -> str:
    """The queue of a lane's wakeups: that of "submit:main" is "submit"."""
    return lane.partition(":")[0]


def route(_task: str, args: tuple[str, ...], *_: object, **__: object) -> dict[str, str]:
    """Sends a wakeup to its lane's queue."""
    return {"queue": queue_of(args[0])}


def configuration() -> dict[str, Any]:
    """Celery's own settings, from ours. Evaluated when first needed, so that importing this module reads nothing."""
    settings = settings_or_exit()
    lanes = lanes_of(settings.accounts)
    return {
        **celery_settings(read_redis_url(settings.redis_url)),
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,  # for ever: a worker goes on without Redis
        "broker_transport_options": {
            "global_keyprefix": KEY_PREFIX,
            "visibility_timeout": VISIBILITY_TIMEOUT,
            "socket_connect_timeout": 5,
            "max_retries": 1,
            "interval_start": 0.2,
            "socket_timeout": 10,
            "socket_keepalive": True,
            "health_check_interval": 10,
            "retry_on_timeout": True,
        },
        "task_queues": [Queue(name, Exchange(name), routing_key=name) for name in QUEUES],
        "task_routes": [route],
        "task_default_queue": "sweep",
        "task_create_missing_queues": False,
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_ignore_result": True,
        "task_publish_retry": False,
        "worker_pool": "threads",
        "worker_concurrency": len(lanes) + 4,  # a wakeup for a running lane needs a thread, too
        "worker_prefetch_multiplier": 1,
        "worker_cancel_long_running_tasks_on_connection_loss": True,  # nothing is acknowledged late; the default warns
        "worker_enable_remote_control": False,
        "worker_redirect_stdouts": False,
        "beat_scheduler": "celery.beat:Scheduler",  # no state: every wakeup every few seconds
        "beat_schedule": {
            f"wake {lane}": {
                "task": "wake",
                "args": (lane,),
                "schedule": BEAT,
                "options": {"expires": WAKEUP_EXPIRES, "queue": queue_of(lane)},
            }
            for lane in lanes
        },
    }


app = Celery("lightfast", include=["worker.tasks"], set_as_current=False)
app.add_defaults(configuration)


@signals.setup_logging.connect(weak=False)
def log_as_lightfast(loglevel: int | str = logging.INFO, **_: object) -> None:
    """Celery's own lines become events like ours."""
    telemetry.configure(settings_or_exit().log)
    logging.basicConfig(level=loglevel, handlers=[Events()], force=True)


class Events(logging.Handler):
    """Hands a log record on as an event.

    A broker that is away is told in one line, without a traceback, as a warning: workers go on by themselves. Celery
    says so many times a minute; a line that comes again and again is told ever more seldom.
    """

    def __init__(self) -> None:
        super().__init__()
        self._times: dict[tuple[str, str], tuple[int, float]] = {}  # of each kind of line, and when it came last

    def emit(self, record: logging.LogRecord) -> None:
        """Tells of the record, unless it is one of many."""
        error = record.exc_info[1] if record.exc_info else None
        expected = error is None or isinstance(error, (OperationalError, SchedulingError))
        level = _LEVELS.get(record.levelno, "info")
        if expected and level == "error" and record.name in _OF_THE_BROKER:
            level = "warning"
        times = self._count(record) if record.levelno >= logging.WARNING else 1
        if not telemetry.is_telling(times):
            return
        telemetry.emit(
            "log",
            level=level,
            logger=record.name,
            message=record.getMessage().strip().partition("\n")[0],
            **({"times": times} if times > 1 else {}),
            **({} if expected else {"exc_info": record.exc_info}),
        )

    def _count(self, record: logging.LogRecord) -> int:
        """How often a line of this kind has come with no longer pause than `FORGOTTEN`."""
        kind, now = (record.name, str(record.msg)), record.created
        times, last = self._times.pop(kind, (0, now))
        if len(self._times) >= KINDS:
            self._times.clear()
        self._times[kind] = (times + 1 if now - last < FORGOTTEN else 1, now)
        return self._times[kind][0]


#: Who speaks of a broker that is away.
_OF_THE_BROKER = ("celery.beat", "celery.worker.consumer.consumer")
#: Seconds after which a line that comes again is told as the first; kinds of lines that are counted.
FORGOTTEN = 300.0
KINDS = 200


_LEVELS: dict[int, Level] = {
    logging.DEBUG: "debug",
    logging.WARNING: "warning",
    logging.ERROR: "error",
    logging.CRITICAL: "error",
}


@functools.cache
def settings_or_exit() -> Settings:
    """The settings; wrong ones end the process with all their problems."""
    with exiting():
        settings = load_settings()
        for ignored in settings.ignored_variables:
            print(f"warning: {ignored}", file=sys.stderr)  # noqa: T201  Celery's logging may not be set up yet
        return settings


@contextlib.contextmanager
def exiting() -> Iterator[None]:
    """An error ends the process: one meant for users with its message and exit code. Celery would swallow it."""
    try:
        yield
    except LightfastError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201  Celery's logging may not be set up yet
        raise SystemExit(error.exit_code) from None
    except Exception:  # noqa: BLE001  told in full, and the end
        traceback.print_exc()
        raise SystemExit(1) from None
