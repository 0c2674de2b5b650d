"""What stops a start, and what lets it go on: accounts that are owed images, a database that was restored."""

from __future__ import annotations

import contextlib
import os

import pytest
import structlog
from sqlalchemy import NullPool, create_engine, inspect, text, update
from typer.testing import CliRunner

from cli.main import app
from jobs.errors import BadInput, LightfastError, WrongSchema
from jobs.facts import SubmitAccepted
from jobs.ledger import open_ledger
from jobs.ledger.database.schema import ledger as ledger_row
from jobs.results.completion import Reason, RunState, waits_for
from tests.support import stocked_ledger as shelf
from tests.support.stocked_ledger import NOW
from tests.support.worker_world import Provider, row, stock, world
from worker.lanes.worker import Worker


@pytest.fixture(autouse=True)
def log_is_reset():
    yield
    structlog.reset_defaults()  # a command of this process had set it up for a screen that is closed


async def test_a_worker_does_not_start_without_an_account_that_is_owed_images(tmp_path):
    services = world(tmp_path, Provider())
    stock(services, tmp_path, [row(0)])
    now = services.clock.now()
    (intent,) = services.ledger.claims.submits("main", now, lease=90).intents
    accepted = SubmitAccepted(attempt_id=intent.attempt_id, at=now, task_id="t", poll_path=None, next_poll_at=now)
    services.ledger.facts.record([accepted])
    services.settings.accounts["renamed"] = services.settings.accounts.pop("main")

    with pytest.raises(BadInput, match=r"account main \(maxapi.io\) is no longer configured.*1 open provider task "):
        await Worker(services).start()


def test_resume_after_restore_is_the_word_that_submits_wait_for(postgres_ledger_url, monkeypatch):
    monkeypatch.setenv("LIGHTFAST_DATABASE_URL", postgres_ledger_url)
    monkeypatch.setenv("LIGHTFAST_REDIS_URL", "redis://127.0.0.1:9/0")
    ledger = open_ledger(postgres_ledger_url)
    shelf.stock(ledger, shelf.rows(2))
    with ledger._database.writing() as tx:
        tx.execute(update(ledger_row).values(origin="another/00000001/1"))
    progress = ledger.reports.progress("spring")
    standing = RunState(progress=progress, accounts=[], now=NOW)
    assert waits_for(standing) is Reason.AFTER_RESTORE
    assert "--after-restore" in CliRunner().invoke(app, ["watch", "spring", "--max-stall", "0s"]).output

    said = CliRunner().invoke(app, ["resume", "--after-restore"])
    again = CliRunner().invoke(app, ["resume", "--after-restore"])

    assert (said.exit_code, again.exit_code) == (0, 0)
    assert "Submits go on" in said.output
    assert "Nothing waited" in again.output
    assert not ledger.reports.progress("spring").moved
    assert shelf.claim(ledger, NOW) == 2
    ledger.close()


def test_tables_of_another_program_are_not_taken_for_a_ledgers(tmp_path, postgres_url):
    for url in (f"sqlite:///{tmp_path}/theirs.db", postgres_url.replace("postgresql://", "postgresql+psycopg://")):
        with contextlib.closing(create_engine(url, poolclass=NullPool).connect()) as theirs:
            theirs.execute(text("CREATE TABLE jobs (salary INTEGER)"))
            theirs.commit()

            with pytest.raises(WrongSchema, match="tables of these names already: jobs"):
                open_ledger(url)

            assert inspect(theirs).get_table_names() == ["jobs"]


@pytest.mark.parametrize("damage", [lambda file: file.write_text("hello"), lambda file: os.truncate(file, 8192)])
def test_a_damaged_ledger_is_told_with_what_helps(sqlite_ledger_url, tmp_path, damage):
    open_ledger(sqlite_ledger_url).close()
    damage(tmp_path / "ledger.db")

    with pytest.raises(LightfastError, match=r"ledger.db is damaged: .*Put a copy of it back"):
        open_ledger(sqlite_ledger_url)
