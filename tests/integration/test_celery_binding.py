"""A worker process runs its lanes when wakeups come, and when none come, and ends them in time."""

from __future__ import annotations

import logging
import threading
import time

import pytest
import redis
from celery.beat import SchedulingError

from sandbox import servers
from tests.support.patience import AT_LAST, until
from worker.celery import FORGOTTEN, QUEUES, Events, app, configuration, queue_of, route, settings_or_exit
from worker.lanes.celery_runtime import CeleryRuntime
from worker.lanes.worker import lanes_of
from worker.runtime.timings import Timings
from worker.tasks import wake_lanes, wakeups_wait


class NobodysWorker:
    """Works in a lane until told to end, and keeps a diary."""

    def __init__(self):
        self.diary, self.changed, self.ended = [], threading.Condition(), threading.Event()
        self.length = AT_LAST
        self.looks = {}

    def run_lane(self, lane):
        self._note(f"run {lane}")
        self.ended.wait(self.length)
        return True

    def is_alive(self):
        return True

    def since_looks(self):
        return self.looks

    def since_run(self):
        return 0.0

    def ledger_answers(self):
        return True

    def drain(self, seconds):
        self._note(f"drain {seconds:g}")
        self.ended.set()

    def _note(self, line):
        with self.changed:
            self.diary.append(line)
            self.changed.notify_all()

    def wait_for(self, *lines):
        with self.changed:
            return self.changed.wait_for(lambda: all(line in self.diary for line in lines), AT_LAST)


@pytest.fixture
def worker():
    return NobodysWorker()


@pytest.fixture
def make_runtime(worker):
    made = []

    def make(watch_every=60.0):  # what it does by itself is the subject of some tests, not of every one
        made.append(CeleryRuntime(Timings(watch_every=watch_every, heartbeat_every=watch_every)))
        return made[-1]

    yield make
    worker.ended.set()
    for runtime in made:
        runtime.finish_drain()


@pytest.fixture
def runtime(make_runtime):
    return make_runtime()


@pytest.fixture
def watchful(make_runtime):
    return make_runtime(0.01)


def test_a_wakeup_for_a_lane_it_does_not_serve_is_nothing(runtime, worker):
    runtime.start(worker, ["copy"], drain_seconds=1)

    assert runtime.answer("submit:main") is False
    assert worker.diary == []


def test_a_process_that_hears_no_wakeup_starts_its_lanes_itself_and_again(watchful, worker):
    worker.length = 0.01

    watchful.start(worker, ["copy", "poll:main"], drain_seconds=1)

    assert worker.wait_for("run copy", "run poll:main")
    until(lambda: worker.diary.count("run copy") > 2)


def test_a_process_that_hears_wakeups_leaves_its_lanes_to_them(watchful, worker):
    worker.length = 0.01
    watchful.answer("copy")  # heard before it serves anything
    watchful.start(worker, ["copy"], drain_seconds=1)

    watchful.answer("copy")
    time.sleep(0.2)  # real time: twenty looks of the watch, or fewer

    assert worker.diary == ["run copy"]


def test_sigterm_ends_the_lanes_and_nothing_starts_after_it(runtime, worker):
    runtime.start(worker, ["copy"], drain_seconds=7)
    at_work = threading.Thread(target=runtime.answer, args=("copy",))
    at_work.start()
    assert worker.wait_for("run copy")

    runtime.begin_drain()
    runtime.begin_drain()
    runtime.finish_drain()
    at_work.join(AT_LAST)

    assert not at_work.is_alive()
    assert runtime.answer("copy") is False
    assert worker.diary == ["run copy", "drain 7"]


def test_the_heartbeat_file_is_touched_only_while_the_loop_turns(watchful, worker, tmp_path):
    beat = tmp_path / "heartbeat"
    looked = threading.Event()
    worker.is_alive = lambda: bool(looked.set())

    watchful.start(worker, ["copy"], drain_seconds=1, heartbeat_file=str(beat))
    assert looked.wait(AT_LAST)
    assert not beat.exists()
    worker.is_alive = lambda: True

    until(beat.exists)


def test_the_heartbeat_file_is_not_touched_while_a_look_for_work_hangs(watchful, worker, tmp_path):
    beat, looked = tmp_path / "heartbeat", threading.Event()
    worker.looks = {"copy": 500.0}
    worker.ledger_answers = lambda: looked.set() or True

    watchful.start(worker, ["copy"], drain_seconds=1, heartbeat_file=str(beat))
    assert looked.wait(AT_LAST)
    assert not beat.exists()
    worker.looks = {"copy": 1.0}

    until(beat.exists)


def test_wakeups_that_wait_are_seen_and_a_redis_that_is_away_has_none(at_broker, redis_server):
    at_broker(redis_server.url)
    redis_server.flush()
    assert not wakeups_wait(redis_server.url, ["copy", "sweep"])

    assert wake_lanes(["copy"])

    assert wakeups_wait(redis_server.url, ["copy", "sweep"])
    assert not wakeups_wait(redis_server.url, ["sweep"])
    assert not wakeups_wait("redis://127.0.0.1:1/0", ["copy"])


def test_every_lane_has_a_queue_and_a_wakeup_that_outlives_slow_clocks(monkeypatch):
    monkeypatch.setenv("MAXAPI_IO_API_KEY", "k")
    settings_or_exit.cache_clear()

    schedule = configuration()["beat_schedule"]

    lanes = lanes_of(["maxapi-io"])
    assert {queue_of(lane) for lane in lanes} == set(QUEUES)
    assert sorted(entry["args"][0] for entry in schedule.values()) == sorted(lanes)
    assert min(entry["options"]["expires"] for entry in schedule.values()) >= 30
    assert all(entry["options"]["queue"] == route("wake", entry["args"])["queue"] for entry in schedule.values())


def test_workers_beat_and_web_check_the_certificate_of_a_broker_with_tls(monkeypatch):
    monkeypatch.setenv("LIGHTFAST_REDIS_URL", "rediss://:secret@cache.test")
    settings_or_exit.cache_clear()

    told = configuration()

    settings_or_exit.cache_clear()
    assert told["broker_url"] == "rediss://:secret@cache.test:6379/0"
    assert told["broker_use_ssl"]["ssl_cert_reqs"] == "required"


def test_a_wakeup_waits_in_its_lanes_queue(at_broker, redis_server):
    at_broker(redis_server.url)
    redis_server.flush()

    assert wake_lanes(["copy", "submit:main"])

    with redis.Redis.from_url(redis_server.url) as client:
        wakeups = {name: client.llen(f"lightfast:{name}") for name in QUEUES}
    assert wakeups == {"copy": 1, "submit": 1, "poll": 0, "sweep": 0}


def test_waking_returns_soon_when_redis_is_away(at_broker):
    at_broker("redis://127.0.0.1:1/0")

    assert wake_lanes(["copy"], wait=2.0) is False  # it would wait for ever otherwise


def test_waking_returns_soon_when_redis_hangs(at_broker):
    with servers.valkey() as hanging:
        at_broker(hanging.url)
        hanging.freeze()

        assert wake_lanes(["copy"], wait=1.0) is False  # it would wait for ever otherwise
        hanging.thaw()
        for thread in threading.enumerate():  # the one that publishes ends here, and not in somebody else's test
            if thread.name == "wakeups":
                thread.join(AT_LAST)


@pytest.fixture
def at_broker(monkeypatch):
    """Points the app at a broker; its pools of connections are made anew."""

    def point(url):
        monkeypatch.setattr(app.conf, "broker_url", url)
        monkeypatch.setattr(app, "_pool", None)
        monkeypatch.setattr(app.amqp, "_producer_pool", None)

    return point


def record(message, *args, at=0.0, error=None, name="celery.beat"):
    told = logging.LogRecord(name, logging.ERROR, __file__, 1, message, args, error and (type(error), error, None))
    told.created = at
    return told


def test_a_broker_that_is_away_is_a_warning_that_is_told_ever_more_seldom(monkeypatch):
    """Beat says it for each lane every ten seconds; and it does no harm."""
    said, events = [], Events()
    monkeypatch.setattr("worker.runtime.telemetry.emit", lambda _event, **fields: said.append(fields))
    for second in range(0, 600, 10):
        for lane in ("copy", "sweep"):
            events.emit(record("Couldn't apply %s\n%s", lane, "…", at=second, error=SchedulingError("refused")))

    assert [fields.get("times", 1) for fields in said] == [1, 2, 4, 8, 16, 32, 64]
    assert {fields["level"] for fields in said} == {"warning"}
    assert said[0]["message"] == "Couldn't apply copy"

    events.emit(record("Couldn't apply %s\n%s", "copy", "…", at=590 + FORGOTTEN, error=SchedulingError("refused")))
    assert "times" not in said[-1], "another time"
    events.emit(record("a fault", error=ValueError("no"), at=600.0))
    assert (said[-1]["level"], said[-1]["message"]) == ("error", "a fault")
    assert said[-1]["exc_info"]
