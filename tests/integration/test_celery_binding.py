"""A worker process starts its lanes when bells ring, when none ring, and ends them in time."""

from __future__ import annotations

import threading
import time

import pytest
import redis

from sandbox import servers
from tests.support.patience import AT_LAST, until
from worker.celery import QUEUES, app, configuration, queue_of, route, settings_or_exit
from worker.lanes import celery_runtime
from worker.lanes.celery_runtime import CeleryRuntime
from worker.lanes.worker import lanes_of
from worker.tasks import bells_wait, ring_lanes


class CrewOfNobody:
    """Works in a lane until told to end, and keeps a diary."""

    def __init__(self):
        self.diary, self.changed, self.ended = [], threading.Condition(), threading.Event()
        self.length = AT_LAST
        self.looks = {}

    def shift(self, lane):
        self._note(f"shift {lane}")
        self.ended.wait(self.length)
        return True

    def bell(self, lane):
        self._note(f"bell {lane}")
        return True

    def is_alive(self):
        return True

    def since_looks(self):
        return self.looks

    def ledger_answers(self, seconds):
        return seconds < 10

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
def crew():
    return CrewOfNobody()


@pytest.fixture
def worker(crew, monkeypatch):
    monkeypatch.setattr(celery_runtime, "WATCH", 60)  # what it does by itself is one test's subject, not every test's
    worker = CeleryRuntime()
    yield worker
    crew.ended.set()
    worker.finish_drain()


def test_a_bell_for_a_running_lane_only_wakes_it(worker, crew):
    worker.start(crew, ["copy"], drain_seconds=1)
    first = threading.Thread(target=worker.answer, args=("copy",))
    first.start()
    assert crew.wait_for("shift copy")

    left = worker.answer("copy")

    assert (left, crew.diary) == (False, ["shift copy", "bell copy"])
    crew.ended.set()
    first.join()


def test_a_bell_for_a_lane_it_does_not_serve_is_nothing(worker, crew):
    worker.start(crew, ["copy"], drain_seconds=1)

    assert worker.answer("submit:main") is False
    assert crew.diary == []


def test_a_process_that_hears_no_bell_starts_its_lanes_itself_and_again(worker, crew, monkeypatch):
    monkeypatch.setattr(celery_runtime, "WATCH", 0.01)
    crew.length = 0.01

    worker.start(crew, ["copy", "poll:main"], drain_seconds=1)

    assert crew.wait_for("shift copy", "shift poll:main")
    until(lambda: crew.diary.count("shift copy") > 2)


def test_a_process_that_hears_bells_leaves_its_lanes_to_them(worker, crew, monkeypatch):
    monkeypatch.setattr(celery_runtime, "WATCH", 0.01)
    crew.length = 0.01
    worker.answer("copy")  # heard before it serves anything
    worker.start(crew, ["copy"], drain_seconds=1)

    worker.answer("copy")
    time.sleep(0.2)  # real time: twenty looks of the watch, or fewer

    assert crew.diary == ["shift copy"]


def test_sigterm_ends_the_shifts_and_nothing_starts_after_it(worker, crew):
    worker.start(crew, ["copy"], drain_seconds=7)
    at_work = threading.Thread(target=worker.answer, args=("copy",))
    at_work.start()
    assert crew.wait_for("shift copy")

    worker.begin_drain()
    worker.begin_drain()
    worker.finish_drain()
    at_work.join(AT_LAST)

    assert not at_work.is_alive()
    assert worker.answer("copy") is False
    assert crew.diary == ["shift copy", "drain 7"]


def test_the_heartbeat_file_is_touched_only_while_the_loop_turns(worker, crew, tmp_path, monkeypatch):
    monkeypatch.setattr(celery_runtime, "WATCH", 0.01)
    monkeypatch.setattr(celery_runtime, "HEARTBEAT", 0.01)
    beat = tmp_path / "heartbeat"
    looked = threading.Event()
    crew.is_alive = lambda: bool(looked.set())

    worker.start(crew, ["copy"], drain_seconds=1, heartbeat_file=str(beat))
    assert looked.wait(AT_LAST)
    assert not beat.exists()
    crew.is_alive = lambda: True

    until(beat.exists)


def test_the_heartbeat_file_is_not_touched_while_a_look_for_work_hangs(worker, crew, tmp_path, monkeypatch):
    monkeypatch.setattr(celery_runtime, "WATCH", 0.01)
    monkeypatch.setattr(celery_runtime, "HEARTBEAT", 0.01)
    beat, looked = tmp_path / "heartbeat", threading.Event()
    crew.looks = {"copy": 500.0}
    crew.ledger_answers = lambda _seconds: looked.set() or True

    worker.start(crew, ["copy"], drain_seconds=1, heartbeat_file=str(beat))
    assert looked.wait(AT_LAST)
    assert not beat.exists()
    crew.looks = {"copy": 1.0}

    until(beat.exists)


def test_bells_that_wait_are_seen_and_a_redis_that_is_away_has_none(at_broker, redis_server):
    at_broker(redis_server.url)
    redis_server.flush()
    assert not bells_wait(redis_server.url, ["copy", "sweep"])

    assert ring_lanes(["copy"])

    assert bells_wait(redis_server.url, ["copy", "sweep"])
    assert not bells_wait(redis_server.url, ["sweep"])
    assert not bells_wait("redis://127.0.0.1:1/0", ["copy"])


def test_every_lane_has_a_queue_and_a_bell_that_outlives_slow_clocks(monkeypatch):
    monkeypatch.setenv("MAXAPI_IO_API_KEY", "k")
    settings_or_exit.cache_clear()

    schedule = configuration()["beat_schedule"]

    lanes = lanes_of(["maxapi-io"])
    assert {queue_of(lane) for lane in lanes} == set(QUEUES)
    assert sorted(entry["args"][0] for entry in schedule.values()) == sorted(lanes)
    assert min(entry["options"]["expires"] for entry in schedule.values()) >= 30
    assert all(entry["options"]["queue"] == route("ring", entry["args"])["queue"] for entry in schedule.values())


def test_a_bell_waits_in_its_lanes_queue(at_broker, redis_server):
    at_broker(redis_server.url)
    redis_server.flush()

    assert ring_lanes(["copy", "submit:main"])

    with redis.Redis.from_url(redis_server.url) as client:
        bells = {name: client.llen(f"lightfast:{name}") for name in QUEUES}
    assert bells == {"copy": 1, "submit": 1, "poll": 0, "sweep": 0}


def test_ringing_returns_soon_when_redis_is_away(at_broker):
    at_broker("redis://127.0.0.1:1/0")

    assert ring_lanes(["copy"], wait=2.0) is False  # it would wait for ever otherwise


def test_ringing_returns_soon_when_redis_hangs(at_broker):
    with servers.valkey() as hanging:
        at_broker(hanging.url)
        hanging.freeze()

        assert ring_lanes(["copy"], wait=1.0) is False  # it would wait for ever otherwise
        hanging.thaw()


@pytest.fixture
def at_broker(monkeypatch):
    """Points the app at a broker; its pools of connections are made anew."""

    def point(url):
        monkeypatch.setattr(app.conf, "broker_url", url)
        monkeypatch.setattr(app, "_pool", None)
        monkeypatch.setattr(app.amqp, "_producer_pool", None)

    return point
