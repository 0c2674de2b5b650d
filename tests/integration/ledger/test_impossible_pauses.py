"""A rest that ends beyond all reason was said by a clock, or a provider, that was wrong: it holds nobody up."""

from __future__ import annotations

import math

import pytest
from sqlalchemy import update

from cli.commands.accounts import _page
from jobs.facts import SubmitAccepted
from jobs.ledger.database.schema import accounts, jobs
from jobs.policy import retry
from jobs.results.account_report import AccountsReport, accounts_document
from jobs.results.troubles import paused_line
from jobs.settings.model import Settings
from providers.dialects.answers import THROTTLED
from providers.types import Kind
from tests.support.stocked_ledger import NOW, claim, rows, stock
from web.metrics import _accounts

YEAR_33715 = 1e12


def paused(ledger, until, count=2):
    stock(ledger, rows(count))
    rest = {"paused_until": until, "paused_code": THROTTLED[1], "paused_message": "429"}
    with ledger._database.writing() as tx:
        tx.execute(update(accounts).values(**rest))


@pytest.mark.parametrize("until", [YEAR_33715, NOW + 2 * 86_400])
def test_an_account_that_rests_beyond_all_reason_probes_with_one_submit_and_is_awake_again(ledger, until):
    paused(ledger, until)

    (probe,) = ledger.claims.submits("main", NOW, lease=90).intents
    assert not ledger.claims.submits("main", NOW + 1, lease=90).intents, "one probe at a time"

    taken = SubmitAccepted(attempt_id=probe.attempt_id, at=NOW + 2, task_id="t", poll_path=None, next_poll_at=NOW + 9)
    ledger.facts.record([taken])
    assert ledger.accounts.all()[0].paused_until is None
    assert len(ledger.claims.submits("main", NOW + 3, lease=90).intents) == 1


@pytest.mark.parametrize("until", [math.inf, NOW + 86_000])
def test_a_rest_within_reason_and_one_for_a_person_hold(ledger, until):
    paused(ledger, until)

    assert not ledger.claims.submits("main", NOW, lease=90).intents
    assert ledger.accounts.all()[0].cooldown_until(NOW) == until


def test_screens_show_an_account_with_such_a_rest_as_awake(ledger):
    paused(ledger, YEAR_33715)
    (account,) = ledger.accounts.all()

    page = _page(AccountsReport([account], [], NOW, ledger.accounts.usage(NOW)), Settings())

    assert account.cooldown_until(NOW) is None
    assert any("awake" in line for line, _ in page)
    assert accounts_document(AccountsReport([account], [], NOW, {}), Settings())["accounts"][0]["paused"] is False
    assert paused_line(account).startswith("account main")
    (told,) = [family for family in _accounts(ledger, NOW) if family.name == "lightfast_account_paused"]
    assert [sample.value for sample in told.samples] == [0.0]


@pytest.mark.parametrize(("ready_at", "taken"), [(YEAR_33715, 1), (NOW + 3600, 0)])
def test_a_row_that_waits_beyond_all_reason_is_tried_now(ledger, ready_at, taken):
    stock(ledger, rows(1))
    with ledger._database.writing() as tx:
        tx.execute(update(jobs).values(ready_at=ready_at))

    assert claim(ledger, NOW) == taken


def test_a_row_is_tried_again_within_the_hour_however_often_it_failed():
    waits = [retry.decide(Kind.TRANSIENT, failures, retries=20).again_in for failures in range(1, 21)]

    assert waits[:3] == [5.0, 15.0, 45.0]
    assert waits == sorted(waits)
    assert max(waits) == 3600.0
