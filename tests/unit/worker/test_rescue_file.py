"""The rescue file meets a disk that fills up, facts that nobody can record, and lines that nobody can read."""

from __future__ import annotations

import asyncio
import errno
import os
import random
from pathlib import Path

import pytest
from sqlalchemy.exc import IntegrityError, OperationalError

from jobs.facts import SubmitAccepted
from worker.recording.recorder import Recorder
from worker.recording.rescue_file import RescueFile
from worker.runtime.clock import SystemClock
from worker.runtime.executors import InlineExecutors
from worker.runtime.ledger_writes import LedgerWrites


def accepted(number):
    return SubmitAccepted(attempt_id=number, at=1.0, task_id=f"t{number}", poll_path=None, next_poll_at=2.0)


@pytest.fixture
def folders(tmp_path):
    made = (tmp_path / "home", tmp_path / "elsewhere")
    for folder in made:
        folder.mkdir()
    return made


@pytest.fixture
def rescue(folders):
    made = RescueFile(folders[0], "ledger-1")
    made._folders = folders
    yield made
    made.close()


def next_start(folders) -> RescueFile:
    made = RescueFile(folders[0], "ledger-1")
    made._folders = folders
    return made


@pytest.mark.virtual_time
async def test_facts_whose_callers_were_cancelled_while_the_ledger_was_locked_are_rescued(rescue, folders):
    class Locked(InlineExecutors):
        async def write(self, *_, **__):
            await asyncio.Event().wait()

    parts = {
        "executors": Locked(),
        "clock": SystemClock(),
        "wake": print,
        "rng": random.Random(1),
        "writes": LedgerWrites(),
    }
    recorder = Recorder(ledger=None, rescue_file=rescue, **parts)
    callers = [asyncio.create_task(recorder.record(accepted(number))) for number in range(3)]
    await asyncio.sleep(60)
    for caller in callers:  # a worker that waits no longer
        caller.cancel()
    await asyncio.gather(*callers, return_exceptions=True)

    assert await recorder.close(5.0) == 3
    rescue.close()
    recorded: list = []
    next_start(folders).replay(recorded.extend)
    assert recorded == [accepted(0), accepted(1), accepted(2)]


def test_a_disk_that_fills_up_after_the_file_was_begun_loses_no_fact(rescue, folders, monkeypatch):
    rescue.save([accepted(1)])
    full, sync = Path(rescue.name).stat().st_dev, os.fsync

    def no_room(number):
        if Path(f"/proc/self/fd/{number}").readlink().is_relative_to(folders[0]):
            raise OSError(errno.ENOSPC, "no space left on device", full)
        sync(number)

    monkeypatch.setattr(os, "fsync", no_room)
    rescue.save([accepted(2)])
    rescue.save([accepted(3)])
    rescue.close()

    recorded: list = []
    next_start(folders).replay(recorded.extend)
    assert {fact.attempt_id for fact in recorded} == {1, 2, 3}


def test_a_fact_that_nobody_can_record_stops_no_start_and_is_kept(rescue, folders):
    rescue.save([accepted(1), accepted(2), accepted(3)])
    rescue.close()
    recorded: list = []

    def record(facts):
        if facts[0].attempt_id == 2:
            raise IntegrityError("INSERT", {}, ValueError("bad"))
        recorded.extend(facts)

    assert next_start(folders).replay(record) == 2
    assert next_start(folders).replay(record) == 0

    assert recorded == [accepted(1), accepted(3)]
    assert '"t2"' in next(folders[0].glob("*.refused")).read_text()


def test_a_ledger_that_is_away_sets_nothing_aside(rescue, folders):
    rescue.save([accepted(1)])
    rescue.close()

    def away(_):
        raise OperationalError("INSERT", {}, ValueError("database is locked"))

    with pytest.raises(OperationalError):
        next_start(folders).replay(away)
    recorded: list = []
    next_start(folders).replay(recorded.extend)

    assert recorded == [accepted(1)]


@pytest.mark.parametrize("line", [b'{"fact": "OfTheFuture"}', b"[]", b'{"no": 1}', b"\xff\xfe", b'{"fact": "Submi'])
def test_a_line_that_nobody_can_read_stops_no_start_and_is_kept(rescue, folders, line):
    rescue.save([accepted(1)])
    name = Path(rescue.name)
    rescue.close()
    name.write_bytes(name.read_bytes() + line)
    recorded: list = []

    next_start(folders).replay(recorded.extend)

    assert recorded == [accepted(1)]
    assert line in next(folders[0].glob("*.refused")).read_bytes()
