"""Schedules where it counts: two beats and three workers that die, and one machine whose process is killed."""

from __future__ import annotations

import contextlib
import csv
import itertools
import json
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from celery import Celery

from jobs.ledger import open_ledger
from jobs.states import FIRING_OVER, FiringState
from sandbox.cluster import BUCKET, Cluster, cluster
from tests.acceptance.test_cluster import bucket_of
from tests.support.patience import until
from tests.support.sandbox_process import Sandbox
from worker.celery import KEY_PREFIX, queue_of

MINUTE = 60.0
PROGRAM = Path(sys.executable).parent / "lightfast"


# -- a cluster -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    said: list[str] = []
    formation = {"worker": 3, "beat": 2}
    with cluster(folder=tmp_path_factory.mktemp("cluster"), formation=formation, say=said.append) as started:
        with contextlib.closing(psycopg.connect(plain(started), autocommit=True)) as connection:
            connection.execute(MOVED_CLOCK.format(name=connection.info.dbname))
            connection.execute(f"SELECT pg_terminate_backend(pid) FROM {OTHERS}")
        yield started
    sys.stderr.write("\n".join(said[-200:]))


#: The database's clock counts for all workers. A test moves it.
MOVED_CLOCK = """
CREATE SCHEMA moved;
CREATE TABLE moved.by AS SELECT 0.0::float8 AS seconds;
CREATE FUNCTION moved.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS
  'SELECT pg_catalog.clock_timestamp() + make_interval(secs => (SELECT seconds FROM moved.by))';
ALTER DATABASE {name} SET search_path = moved, public, pg_catalog;
"""
OTHERS = "pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


#: On a slow machine a real minute passes while a time goes on, and the next one is skipped. If several pass before
#: anybody looks, only the last of them is made up; so that one is never missed.
GOOD = {FiringState.ENDED, FiringState.SKIPPED}


def plain(running: Cluster):
    return running.database.url.replace("postgresql+psycopg", "postgresql")


@pytest.fixture
def ledger(running):
    with contextlib.closing(open_ledger(running.database.url)) as opened:
        yield opened


def move_clock(running: Cluster, seconds):
    with contextlib.closing(psycopg.connect(plain(running), autocommit=True)) as connection:
        connection.execute("UPDATE moved.by SET seconds = seconds + %s", [seconds])


def ring(running: Cluster):
    """As beat does every ten seconds."""
    with Celery(broker=running.redis.url, set_as_current=False) as app:
        app.conf.broker_transport_options = {"global_keyprefix": KEY_PREFIX}
        app.send_task("wake", ("sweep",), queue=queue_of("sweep"), ignore_result=True)


def put_catalogue(running: Cluster, rows):
    body = "key,prompt\n" + "".join(f"k{number},lamp {number}\n" for number in range(rows))
    bucket_of(running).client.put_object(Bucket=BUCKET, Key="catalogue.csv", Body=body.encode())


def command(running: Cluster, folder, *words):
    done = subprocess.run(
        [PROGRAM, *words], env=running.environment, cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def times(ledger, name):
    """The schedule's times, the oldest first."""
    return ledger.schedules.history(ledger.schedules.find(name).id, 1_000)[::-1]


def all_over(ledger, name):
    return all(each.state in FIRING_OVER for each in times(ledger, name))


def pass_a_minute(running: Cluster, ledger, name):
    """Moves the clock, and waits until what came with it is over."""
    before = len(times(ledger, name))
    move_clock(running, MINUTE)
    ring(running)
    until(lambda: len(times(ledger, name)) > before and all_over(ledger, name))
    assert times(ledger, name)[-1].state in GOOD


def test_a_schedule_of_every_minute_fires_each_time_once_whoever_dies(running, ledger, tmp_path):
    sandbox = Sandbox(url=running.stand_in.url)
    sandbox.play(pictures={"tiny": True})
    put_catalogue(running, 5)
    add = ("schedule", "add", "minutely", "* * * * *", f"s3://{BUCKET}/catalogue.csv", "--to", f"s3://{BUCKET}/out")
    command(running, tmp_path, *add, "--budget", "1", "--yes")

    for _ in range(3):
        pass_a_minute(running, ledger, "minutely")
    for name in ("beat.1", "worker.1"):
        next(member for member in running.members if member.name == name).kill()
    put_catalogue(running, 7)
    for _ in range(3):
        pass_a_minute(running, ledger, "minutely")
    before = times(ledger, "minutely")

    for member in running.members:
        member.kill()
    move_clock(running, 8 * MINUTE)  # of the last five minutes the others are skipped
    until(lambda: len(times(ledger, "minutely")) > len(before) and all_over(ledger, "minutely"))
    pass_a_minute(running, ledger, "minutely")

    told = times(ledger, "minutely")
    came = [each.at for each in told]
    assert came == list(itertools.islice(itertools.count(came[0], MINUTE), len(came)))
    states = "".join("." if each.state in GOOD else each.state.value[0] for each in told[len(before) :])
    assert states.startswith("mm")  # of those that nobody saw only the last was made up
    assert states.endswith(".")
    assert set(states) == {"m", "."}
    assert {each.exit_code for each in told if each.state is FiringState.ENDED} == {0}
    counts = sandbox.stats()
    assert (counts["total"]["charged_images"], counts["repeated"]) == (7, {})


# -- one machine ---------------------------------------------------------------------------------------------------


def here(folder, *words, code=0):
    done = subprocess.run(
        [PROGRAM, *words, "--sandbox"], cwd=folder, capture_output=True, text=True, check=False, env=dict(os.environ)
    )
    assert done.returncode == code, done.stderr
    return done.stdout


def write_catalogue(folder, rows):
    path = folder / "catalogue.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["key", "prompt"], *([f"k{number}", f"lamp {number}"] for number in range(rows))])
    os.utime(path, (1_000_000 + rows, 1_000_000 + rows))


def shown(folder):
    return json.loads(here(folder, "schedule", "show", "minutely", "--json"))["history"][::-1]


def let_pass(folder, seconds):
    """All that is on record lies so much further back, as if nobody had been there for so long."""
    with contextlib.closing(sqlite3.connect(folder / "lightfast-sandbox.db")) as connection, connection:
        connection.execute("UPDATE schedules SET next_at = next_at - ?", [seconds])
        for column in ("acts_at", "began_at", "ended_at", "at"):
            connection.execute(f"UPDATE firings SET {column} = {column} - ?", [seconds])


@contextlib.contextmanager
def serving(folder):
    process = subprocess.Popen(
        [PROGRAM, "schedule", "serve", "--sandbox"],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_on_one_machine_what_a_killed_process_missed_is_made_up_once(tmp_path):
    write_catalogue(tmp_path, 4)
    here(tmp_path, "schedule", "add", "minutely", "* * * * *", "catalogue.csv", "--to", "out", "--budget", "1", "--yes")
    let_pass(tmp_path, MINUTE)
    with serving(tmp_path) as process:
        # On a slow machine real minutes pass before it looks, and only the last of them is made up.
        until(lambda: "ended" in [each["state"] for each in shown(tmp_path)])
        write_catalogue(tmp_path, 6)
        process.kill()
        process.wait()
    seen = len(shown(tmp_path))
    let_pass(tmp_path, 8 * MINUTE)  # of the last five minutes the others are skipped
    with serving(tmp_path) as process:
        until(lambda: {each["state"] for each in shown(tmp_path)[seen:]} >= {"missed", "ended"})
        process.send_signal(signal.SIGTERM)
        until(lambda: process.poll() is not None)
        assert process.returncode == 143

    told = shown(tmp_path)
    after = [each["state"] for each in told[seen:]]
    assert after[:2] == ["missed", "missed"]
    assert "ended" in after
    assert len({each["at"] for each in told}) == len(told)
    assert len(list((tmp_path / "out").rglob("*.png"))) == 6
    (batch,) = json.loads(here(tmp_path, "status", "--json"))["batches"]
    assert batch["rows"] == {"done": 6}
