"""Two real Celery workers, beat, PostgreSQL, Valkey, S3 and the stand-in: what dies in the middle costs only time."""

from __future__ import annotations

import contextlib
import csv
import subprocess
import sys
import time

import boto3
import pytest
from celery import Celery
from sqlalchemy import func, select

from jobs.ledger import open_ledger
from jobs.ledger.database.schema import attempts
from jobs.states import AttemptState, JobState
from sandbox.cluster import BUCKET, Cluster, cluster
from tests.support.bucket import Bucket
from tests.support.patience import until
from tests.support.sandbox_process import Sandbox
from worker.celery import KEY_PREFIX, QUEUES, queue_of
from worker.tasks import wakeups_wait

ROWS = 90
PROVIDERS = ("maxapi.io", "maxapi.dev", "apimaster")


SAID: list[str] = []  # by the cluster's processes


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with cluster(folder=tmp_path_factory.mktemp("cluster"), say=SAID.append) as started:
        yield started


@pytest.fixture(autouse=True)
def what_they_said():
    """pytest shows it beside a failure."""
    SAID.clear()
    yield
    sys.stderr.write("\n".join(SAID[-200:]))


@pytest.fixture
def sandbox(running) -> Sandbox:
    stand_in = Sandbox(url=running.stand_in.url)
    stand_in.play(pictures={"tiny": True}, takes={"default": [1.0, 3.0]})
    stand_in.reset()
    return stand_in


@pytest.fixture
def ledger(running):
    with contextlib.closing(open_ledger(running.database.url)) as opened:
        yield opened


def test_a_worker_killed_and_a_redis_flushed_in_the_middle_lose_nothing_and_pay_nothing_twice(
    running, sandbox, ledger, tmp_path
):
    submit(running, manifest(tmp_path, "killed"))
    until(lambda: accepted(sandbox) > ROWS / 4)

    running.workers[0].kill()
    running.redis.flush()
    on_their_way = claimed_and_unanswered(ledger)  # of both workers; the other's are answered
    at_kill = ledger.reports.progress("killed").images_stored
    until(lambda: ledger.reports.progress("killed").images_stored > min(at_kill + 10, ROWS - on_their_way - 1))
    until(lambda: is_done_but_for(ledger.reports.progress("killed"), on_their_way))
    wait_until_nothing_moves(ledger, "killed")

    told, progress = sandbox.stats(), ledger.reports.progress("killed")
    assert is_done_but_for(progress, on_their_way)
    assert running.workers[0].starts == 2, "\n".join(SAID)
    assert told["repeated"] == {}
    held = progress.images_in_flight + progress.images_unknown + progress.images_generated
    assert 0 <= told["total"]["charged_images"] - progress.images_stored <= held
    assert progress.images_stored <= len(stored_keys(running, "killed")) <= progress.images_stored + held


def test_workers_of_a_cluster_buy_no_more_where_nothing_can_be_stored_and_store_all_once_it_can(
    running, sandbox, ledger, tmp_path
):
    sandbox.play(pictures={"tiny": True}, takes={"default": [1.0, 3.0]}, rules=[{"trouble": "cdn html"}])
    submit(running, manifest(tmp_path, "pages", rows=600))
    until(lambda: {each.provider for each in ledger.claims.failing(time.time())} == set(PROVIDERS))
    until(lambda: not ledger.reports.progress("pages").images_in_flight)
    bought = accepted(sandbox)

    assert bought < 600
    assert ledger.reports.progress("pages").images_stored == 0

    sandbox.play(pictures={"tiny": True}, takes={"default": [1.0, 3.0]})
    until(lambda: is_done_but_for(ledger.reports.progress("pages"), 0))

    told = sandbox.stats()
    assert (told["total"]["charged_images"], told["repeated"]) == (600, {})
    assert ledger.claims.failing(time.time()) == ()


def test_messages_of_the_released_version_are_dropped_and_workers_go_on(running, sandbox, ledger, tmp_path):
    """While workers are replaced one by one, an older beat sends `ring`, which no newer worker knows."""
    url, starts = running.redis.url, [each.starts for each in running.workers]
    with Celery(broker=url, set_as_current=False) as older:
        older.conf.broker_transport_options = {"global_keyprefix": KEY_PREFIX}
        for lane in ("copy", "poll:maxapi-io", "submit:maxapi-io", "sweep"):
            older.send_task("ring", (lane,), queue=queue_of(lane), ignore_result=True)
    until(lambda: not wakeups_wait(url, QUEUES))

    submit(running, manifest(tmp_path, "upgraded", rows=9))
    until(lambda: is_done_but_for(ledger.reports.progress("upgraded"), 0))

    until(lambda: any("unregistered task of type 'ring'" in line for line in SAID))
    assert [each.starts for each in running.workers] == starts


def test_with_redis_gone_for_good_work_is_recorded_found_and_finished(running, sandbox, ledger, tmp_path):
    submit(running, manifest(tmp_path, "silent"))
    until(lambda: accepted(sandbox) > ROWS / 4)

    running.redis.kill()
    until(lambda: is_done_but_for(ledger.reports.progress("silent"), 0))
    submit(running, manifest(tmp_path, "unheard"))
    until(lambda: is_done_but_for(ledger.reports.progress("unheard"), 0))

    told = sandbox.stats()
    assert (told["total"]["charged_images"], told["repeated"]) == (2 * ROWS, {})
    assert len(stored_keys(running, "silent")) == len(stored_keys(running, "unheard")) == ROWS


def manifest(folder, name, rows=ROWS):
    path = folder / f"{name}.csv"
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["key", "prompt", "provider"])
        table.writerows([f"k{n}", f"{name} picture {n}", PROVIDERS[n % 3]] for n in range(rows))
    return path


def submit(running: Cluster, path):
    command = ["lightfast", "submit", str(path), "--to", f"s3://{BUCKET}", "--yes", "--quiet"]
    done = subprocess.run(
        command, env=running.environment, cwd=path.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def accepted(sandbox):
    return sandbox.stats()["total"]["accepted"]


def claimed_and_unanswered(ledger):
    """Submits that processes have claimed, and may have sent. A slow machine's claims reach further ahead."""
    submitting = select(func.count()).select_from(attempts).where(attempts.c.state == AttemptState.SUBMITTING.value)
    with ledger._database.reading() as tx:
        return tx.execute(submitting).scalar_one()


def is_done_but_for(progress, few):
    """Every image is stored, except at most so many that were in the hands of a process that died."""
    return progress.images_total - progress.images_stored <= few and not progress.jobs.get(JobState.READY)


def wait_until_nothing_moves(ledger, name):
    """Until what is left is what a dead process held; the sums below hold before that, too."""
    seen, since = None, time.monotonic()
    while time.monotonic() < since + 5:
        stored = ledger.reports.progress(name).images_stored
        if stored != seen:
            seen, since = stored, time.monotonic()
        time.sleep(0.5)  # real time: what is counted too early is only weaker


def stored_keys(running: Cluster, batch):
    return bucket_of(running).keys(f"{batch}/")


def bucket_of(running: Cluster):
    names = ("endpoint_url", "aws_access_key_id", "aws_secret_access_key", "region_name")
    variables = ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION")
    given = {name: running.environment[variable] for name, variable in zip(names, variables, strict=True)}
    return Bucket(server=running.store, name=BUCKET, client=boto3.client("s3", **given))
