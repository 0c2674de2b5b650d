"""Facts outlive a ledger that refuses them, a fact that is bad, and a process that must end."""

from __future__ import annotations

import asyncio
import math
import random

import psycopg
import pytest
import structlog

from jobs.facts import ImageDelayed, MadeImage, SubmitAccepted, SubmitRefused, TaskSucceeded
from jobs.ledger import RecordEffects
from providers.types import Kind, Link
from worker.recording.recorder import Recorder
from worker.recording.rescue_file import RescueFile
from worker.runtime.clock import SystemClock
from worker.runtime.executors import InlineExecutors
from worker.runtime.ledger_writes import LedgerWrites


class Hasty(SystemClock):
    """Waits give way, and take no time."""

    async def sleep(self, _: float) -> None:
        await asyncio.sleep(0)


class FakeLedger:
    """Takes what `refuses` does not refuse."""

    def __init__(self) -> None:
        self.facts = self.workers = self
        self.groups: list[list] = []
        self.down = 0  # writes that still fail
        self.says = OSError("ledger is away")
        self.bad = set()  # attempts whose facts never go in
        self.unlucky = {}  # attempt -> writes of its facts that still fail, while others work

    def record(self, facts):
        self.touch()
        if any(getattr(fact, "attempt_id", 0) in self.bad for fact in facts):
            raise ValueError("bad fact")
        for fact in facts:
            if self.unlucky.get(fact.attempt_id, 0):
                self.unlucky[fact.attempt_id] -= 1
                raise OSError("this commit broke")
        self.groups.append(list(facts))
        return RecordEffects(wakeups=frozenset({"copy"}))

    def touch(self, *_):
        if self.down:
            self.down -= 1
            raise self.says

    @property
    def told(self):
        return [fact for group in self.groups for fact in group]


@pytest.fixture
def ledger():
    return FakeLedger()


@pytest.fixture
def rescue(tmp_path):
    made = RescueFile(tmp_path, "ledger-1")
    made._folders = (tmp_path,)
    yield made
    made.close()


@pytest.fixture
def recorder(ledger, rescue):
    rng = random.Random(1)
    parts = {
        "executors": InlineExecutors(),
        "clock": Hasty(),
        "wake": [].append,
        "rng": rng,
        "writes": LedgerWrites(),
    }
    return Recorder(ledger=ledger, rescue_file=rescue, **parts)


def accepted(number):
    return SubmitAccepted(attempt_id=number, at=1.0, task_id=f"t{number}", poll_path=None, next_poll_at=2.0)


def refused(number, message="no"):
    return SubmitRefused(attempt_id=number, at=1.0, kind=Kind.TRANSIENT, code="x", message=message)


async def test_facts_that_come_while_one_write_runs_share_the_next(recorder, ledger):
    await asyncio.gather(*(recorder.record(accepted(number)) for number in range(100)))

    assert len(ledger.told) == 100
    assert len(ledger.groups) <= 2


async def test_a_caller_that_is_cancelled_takes_its_fact_not_back(recorder, ledger):
    ledger.down = 3
    callers = [asyncio.create_task(recorder.record(accepted(number))) for number in range(4)]
    await asyncio.sleep(0)
    callers[0].cancel()  # before anything was written
    while not ledger.down < 3:  # noqa: ASYNC110  turns of the loop, since the clock waits for nothing
        await asyncio.sleep(0)
    callers[1].cancel()  # between two tries
    done = await asyncio.gather(*callers, return_exceptions=True)

    assert [type(each) for each in done] == [asyncio.CancelledError] * 2 + [type(None)] * 2
    assert sorted(fact.attempt_id for fact in ledger.told) == [0, 1, 2, 3]


async def test_a_bad_fact_costs_no_other_its_record_and_ends_in_the_rescue_file(recorder, ledger, tmp_path):
    ledger.bad = {3}

    await asyncio.gather(*(recorder.record(refused(number)) for number in range(6)), recorder.record(accepted(9)))

    assert {fact.attempt_id for fact in ledger.told} == {0, 1, 2, 4, 5, 9}
    assert ledger.told[0] == accepted(9)  # what was paid is written first
    assert recorder.healthy
    assert "SubmitRefused" in next(tmp_path.glob("lightfast-rescue-*.jsonl")).read_text()


async def test_a_fact_that_fails_by_chance_is_not_taken_for_a_bad_one(recorder, ledger, tmp_path):
    ledger.unlucky = {3: 9}

    await recorder.record(accepted(3))

    assert ledger.told == [accepted(3)]
    assert not list(tmp_path.glob("*.jsonl"))


async def test_a_refused_record_says_in_the_log_that_the_ledger_is_read_only_once_and_that_it_is_over(recorder, ledger):
    ledger.down, ledger.says = 9, psycopg.errors.ReadOnlySqlTransaction("in a read-only transaction")

    with structlog.testing.capture_logs() as events:
        await recorder.record(accepted(1))

    told = [event["event"] for event in events]
    assert told.count("ledger_is_read_only") == told.count("ledger_takes_writes_again") == 1
    assert ledger.told == [accepted(1)]


async def test_a_log_that_is_gone_costs_no_fact_its_record(recorder, ledger, tmp_path):
    said = structlog.get_config()
    with (tmp_path / "log").open("w") as closed:
        structlog.configure(logger_factory=structlog.WriteLoggerFactory(file=closed))
    try:
        ledger.bad = {3}
        await asyncio.gather(*(recorder.record(refused(number)) for number in range(6)))
    finally:
        structlog.configure(**said)

    assert {fact.attempt_id for fact in ledger.told} == {0, 1, 2, 4, 5}


async def test_while_the_ledger_is_away_nothing_new_is_submitted_and_facts_lie_in_a_file(recorder, ledger, tmp_path):
    ledger.down = 9
    written = recorder.put(accepted(1))
    seen = set()
    while not written.done():
        seen.add((recorder.healthy, bool(list(tmp_path.glob("*.jsonl")))))
        await asyncio.sleep(0)

    assert (False, True) in seen
    assert ledger.told == [accepted(1)]
    assert recorder.healthy
    assert not list(tmp_path.glob("*.jsonl"))


async def test_what_is_not_durable_at_the_end_is_replayed_at_the_next_start(recorder, ledger, rescue, tmp_path):
    facts = [
        accepted(1),
        TaskSucceeded(
            attempt_id=2, at=1.0, images=(MadeImage(link=Link(url="https://x/\ud800"), spool=None, expires_at=3.0),)
        ),
        ImageDelayed(image_id=4, at=1.0, next_copy_at=None, code="not_an_image", message="a page"),
        refused(3),
    ]
    ledger.down = math.inf
    for fact in facts:
        recorder.put(fact)

    assert await recorder.close(0.05) == 4
    replayed: list = []
    assert RescueFile(tmp_path, "ledger-1").replay(replayed.extend) == 0  # the file's process lives
    rescue.close()
    RescueFile(tmp_path, "ledger-1").replay(replayed.extend)

    assert sorted(replayed, key=repr) == sorted(facts, key=repr)
    assert not list(tmp_path.glob("*.jsonl"))


def test_a_line_that_was_being_written_when_its_process_died_is_passed_over(rescue, tmp_path):
    rescue.save([accepted(1), accepted(2)])
    name = rescue._file.name
    rescue.close()
    with open(name, "r+b") as file:  # noqa: PTH123  to cut it
        file.truncate(file.seek(0, 2) - 10)

    replayed: list = []
    RescueFile(tmp_path, "ledger-1").replay(replayed.extend)

    assert replayed == [accepted(1)]
