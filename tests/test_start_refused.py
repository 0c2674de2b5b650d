"""What stops a start, and what lets it go on: accounts that are owed images, a database that was restored."""

from __future__ import annotations

import pytest
import structlog
from crew_world import Provider, close_all, row, stock, world
from sqlalchemy import update
from typer.testing import CliRunner

from cli.main import app
from jobs.errors import BadInput
from jobs.ledger import open_ledger
from jobs.ledger.schema import ledger as ledger_row
from jobs.ledger.values.facts import SubmitAccepted
from tests.ledger import stock as shelf
from tests.ledger.stock import NOW
from worker.crew import Crew
from worker.verdict import Reason, Standing, waits_for


@pytest.fixture(autouse=True)
async def _closed():
    yield
    await close_all()
    structlog.reset_defaults()  # a command of this process had set it up for a screen that is closed


async def test_a_crew_does_not_start_without_an_account_that_is_owed_images(tmp_path):
    services = world(tmp_path, Provider())
    stock(services, tmp_path, [row(0)])
    now = services.clock.now()
    (intent,) = services.ledger.claim_submits("main", now, lease=90).intents
    accepted = SubmitAccepted(attempt_id=intent.attempt_id, at=now, task_id="t", poll_path=None, next_poll_at=now)
    services.ledger.record([accepted], now)
    services.settings.accounts["renamed"] = services.settings.accounts.pop("main")

    with pytest.raises(BadInput, match=r"account main \(maxapi.io\) is no longer configured.*1 open provider task "):
        await Crew(services).start()


def test_resume_after_restore_is_the_word_that_submits_wait_for(postgres_ledger_url, monkeypatch):
    monkeypatch.setenv("LIGHTFAST_DATABASE_URL", postgres_ledger_url)
    monkeypatch.setenv("LIGHTFAST_REDIS_URL", "redis://127.0.0.1:9/0")
    ledger = open_ledger(postgres_ledger_url)
    shelf.stock(ledger, shelf.rows(2))
    with ledger._database.writing() as tx:
        tx.execute(update(ledger_row).values(origin="another/00000001/1"))
    progress = ledger.progress("spring")
    standing = Standing(progress=progress, accounts=[], now=NOW)
    assert waits_for(standing) is Reason.AFTER_RESTORE
    assert "--after-restore" in CliRunner().invoke(app, ["watch", "spring", "--max-stall", "0s"]).output

    said = CliRunner().invoke(app, ["resume", "--after-restore"])
    again = CliRunner().invoke(app, ["resume", "--after-restore"])

    assert (said.exit_code, again.exit_code) == (0, 0)
    assert "Submits go on" in said.output
    assert "Nothing waited" in again.output
    assert not ledger.progress("spring").moved
    assert shelf.claim(ledger, NOW) == 2
    ledger.close()
