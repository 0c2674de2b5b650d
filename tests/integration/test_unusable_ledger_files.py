"""A ledger's disk is full, or its file may not be written: there are words that help, and nothing paid is lost."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import tempfile
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from cli.commands import doctor
from cli.output.endings import message
from jobs.errors import LightfastError
from jobs.ledger import file_trouble, open_ledger
from jobs.ledger.database import engine
from jobs.settings.sources import load_settings
from jobs.states import JobState
from tests.support.ledger_files import new_ledger
from tests.support.shop_ledger import document
from tests.support.worker_world import Provider, row, stock, world
from worker.local.run import Reason, run_batch
from worker.recording.rescue_file import RescueFile
from worker.runtime.ledger_writes import LedgerWrites


def refused(code, path):
    """SQLite's error with one of its codes, about a file."""
    error = sqlite3.OperationalError("as SQLite says it")
    error.sqlite_errorcode, error.ledger_path = code, path
    return error


# -- words ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (sqlite3.SQLITE_FULL, "cannot be written: the disk of {folder} is full. Make room there"),
        (sqlite3.SQLITE_IOERR_WRITE, "cannot be read or written: the disk of {folder} reports an error"),
        (sqlite3.SQLITE_READONLY_DIRECTORY, "is read-only: {user} may not write to the folder {folder}"),
        (sqlite3.SQLITE_CANTOPEN, "is read-only: {user} may not write to the folder {folder}"),
        (sqlite3.SQLITE_BUSY, None),
    ],
)
def test_each_way_in_which_a_file_cannot_be_used_has_words_that_help(code, said, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere

    told = file_trouble(refused(code, tmp_path / "lightfast.db"))

    if said is None:
        assert told is None
    else:
        assert told.startswith(said.format(folder=tmp_path, user=f"user {Path.home().owner()}"))


def test_a_file_in_a_folders_place_is_told_and_nothing_is_spent(tmp_path):
    (tmp_path / "shop").write_text("no folder")

    with pytest.raises(LightfastError, match=r"folder .*shop cannot be made: .*Nothing was spent"):
        open_ledger(f"sqlite:///{tmp_path}/shop/lightfast.db")


def test_a_folder_in_the_files_place_is_told(tmp_path):
    (tmp_path / "lightfast.db").mkdir()

    with pytest.raises(LightfastError, match=r"cannot be opened: it is a folder\. Name a file in database_url"):
        open_ledger(f"sqlite:///{tmp_path}/lightfast.db")


def test_a_lock_that_cannot_be_taken_is_told_and_a_look_needs_none(tmp_path):
    with contextlib.closing(open_ledger(new_ledger(tmp_path / "lightfast.db"))) as ledger:
        (tmp_path / "lightfast.db.lock").mkdir()

        assert not ledger.is_held()
        with pytest.raises(LightfastError, match=r"cannot be worked on: .*lightfast.db.lock cannot be written"):
            ledger.hold(0.0).__enter__()


def test_a_small_write_that_a_full_disk_takes_is_not_its_end(tmp_path):
    writes = LedgerWrites()
    writes.failed(OperationalError("COMMIT", None, refused(sqlite3.SQLITE_FULL, tmp_path / "lightfast.db")), 0.0)
    writes.records_wait = True

    writes.worked()
    assert "is full. Make room there (since 00:00:00Z)" in writes.problem
    writes.records_wait = False
    writes.worked()
    assert writes.problem is None


def test_where_no_ledger_can_be_made_is_told_by_plan_and_doctor_before_money_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("MAXAPI_IO_API_KEY", "a-key")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shop.csv").write_text("key,prompt\nlamp,A lamp\n")
    usual = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path and usual(path, mode))  # root may write there

    (why,) = document("plan", "shop.csv", code=2)["reasons"]

    assert why.startswith(f"the ledger {tmp_path}/lightfast.db cannot be made: this user may not write to the folder")
    assert (doctor._database(load_settings()).verdict, doctor._database(load_settings()).text) == ("problem", why)


# -- a run ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path, monkeypatch):
    """The ledger's disk, which a test may fill: SQLite reads from it then, and finds no room to write."""
    state, writing = {"is_full": False}, engine.Database.writing

    @contextlib.contextmanager
    def write(database):
        if state["is_full"]:
            raise OperationalError("COMMIT", None, refused(sqlite3.SQLITE_FULL, database.path))
        with writing(database) as tx:
            yield tx

    monkeypatch.setattr(engine.Database, "writing", write)
    return state


def facts_in(file):
    return {json.loads(line)["fact"] for line in Path(file).read_text().splitlines() if line}


@pytest.mark.virtual_time
@pytest.mark.parametrize("max_stall", [0.0, 120.0])
async def test_a_run_whose_ledgers_disk_fills_up_ends_after_max_stall_with_what_was_answered_in_the_named_file(
    max_stall, tmp_path, disk
):
    provider = Provider()
    services = world(tmp_path, provider)
    stock(services, tmp_path, [row(number) for number in range(3)])
    provider.on_submit = lambda _: disk.update(is_full=True)

    began = services.clock.boot()
    ending = await run_batch(services, "b", max_stall=max_stall)
    took = services.clock.boot() - began

    said = message(ending)
    assert (ending.exit_code, ending.reason) == (4, Reason.LEDGER_TAKES_NO_WRITES)
    assert f"the disk of {tmp_path} is full. Make room there" in said
    assert took < max_stall + 30
    assert ending.rescued == provider.submits.total() > 0
    assert f"saved in {ending.rescue_file}, to be recorded by the next run" in said
    assert facts_in(ending.rescue_file) == {"SubmitAccepted"}
    services.rescue_file.close()  # as its process has ended
    disk.update(is_full=False)
    with services.ledger.hold(services.clock.now()):  # as the next run begins
        RescueFile(tmp_path, services.ledger.ledger_id).replay(services.ledger.facts.record)
    assert services.ledger.reports.progress("b").jobs == {JobState.WORKING: 3}
    assert not services.ledger.unknowns.all()


@pytest.mark.virtual_time
async def test_answers_that_no_folder_takes_are_not_called_saved(tmp_path, disk, monkeypatch):
    provider = Provider()
    services = world(tmp_path, provider)
    stock(services, tmp_path, [row(0)])
    provider.on_submit = lambda _: disk.update(is_full=True)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(services.rescue_file, "save", full)

    said = message(await run_batch(services, "b", max_stall=0.0))

    assert "1 answer could not be saved anywhere" in said
    assert "saved in" not in said


# -- rescue files --------------------------------------------------------------------------------------------------


def test_without_a_folder_for_temporary_files_there_is_a_rescue_file_beside_the_ledger(tmp_path, monkeypatch):
    def none():
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", none)

    assert RescueFile(tmp_path, "ledger-1").replay(lambda _: None) == 0


def test_a_rescue_file_that_cannot_be_read_stops_the_start_before_anything_is_sent(tmp_path):
    (tmp_path / "lightfast-rescue-ledger-1-1-a.jsonl").mkdir()

    with pytest.raises(LightfastError, match="has answers to paid requests that are not on record yet"):
        RescueFile(tmp_path, "ledger-1").replay(lambda _: None)
