"""The emergency stop: from the moment it returns no submit is claimed, whoever claims, on both databases."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from typing import Self

from sqlalchemy import func, select

from jobs.facts import SubmitAccepted, SubmitRefused
from jobs.ledger import open_ledger
from jobs.ledger.claims import submits
from jobs.ledger.database.schema import attempts
from providers.types import Kind
from tests.support import stocked_ledger
from tests.support.stocked_ledger import NOW

ACCOUNTS = ("main", "second")
CLAIMERS = 4  # of each account
AFTER = 5  # claims that each makes after the stop
SLOW = submits.Terms(lease=90, at_most=64, horizon=1.0, only=None, holder="slow")


class Crowd:
    """Claimers with connections of their own, on every account, that claim until they are told to end."""

    def __init__(self, url: str) -> None:
        self.claims: Counter[int] = Counter()
        self.changed = threading.Condition()
        self.ended = threading.Event()
        self.trouble: list[BaseException] = []
        self.threads = [
            threading.Thread(target=self._claim, args=(url, number, account))
            for number, account in enumerate(ACCOUNTS * CLAIMERS)
        ]

    def __enter__(self) -> Self:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        for thread in self.threads:
            thread.join()
        assert not self.trouble

    def wait_until_each_has_claimed(self, times: int) -> None:
        """Since it was called."""
        before = Counter(self.claims)
        with self.changed:
            everyone = range(len(self.threads))
            assert self.changed.wait_for(
                lambda: self.trouble or all(self.claims[one] - before[one] >= times for one in everyone), 60
            )

    def _claim(self, url: str, number: int, account: str) -> None:
        try:
            with contextlib.closing(open_ledger(url)) as ledger:
                while not self.ended.is_set():
                    ledger.claims.submits(account, NOW, lease=90, at_most=1, holder=f"claimer {number}")
                    with self.changed:
                        self.claims[number] += 1
                        self.changed.notify_all()
        except BaseException as trouble:  # noqa: BLE001  told by the test
            with self.changed:
                self.trouble.append(trouble)
                self.changed.notify_all()


def attempts_made(ledger) -> int:
    with ledger._database.reading() as tx:
        return tx.execute(select(func.count()).select_from(attempts)).scalar_one()


def test_no_attempt_is_made_after_the_stop_has_returned_however_many_claim(ledger, ledger_url):
    ledger.accounts.sync([stocked_ledger.account(name=name, max_in_flight=100_000) for name in ACCOUNTS])
    ledger.batches.record_manifest(stocked_ledger.new_batch(), stocked_ledger.rows(4000), now=NOW)

    with Crowd(ledger_url) as crowd:
        crowd.wait_until_each_has_claimed(1)
        ledger.emergency_stop.begin(NOW, "mia@shop")
        made = attempts_made(ledger)
        crowd.wait_until_each_has_claimed(AFTER)

    assert 0 < made < 4000, "it was in the middle"
    assert attempts_made(ledger) == made


def test_an_account_that_comes_during_the_stop_claims_nothing(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(3))
    ledger.emergency_stop.begin(NOW, "mia@shop")

    ledger.accounts.sync([stocked_ledger.account(), stocked_ledger.account(name="new")])

    assert not ledger.claims.submits("new", NOW, lease=90).intents
    ledger.emergency_stop.lift()
    assert ledger.claims.submits("new", NOW, lease=90).intents


def test_a_second_stop_changes_nothing_and_its_end_leaves_paused_batches_paused(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(2))
    ledger.batches.record_manifest(stocked_ledger.new_batch(name="autumn"), stocked_ledger.rows(2, first=10), now=NOW)
    ledger.batches.pause("autumn", "on your word")

    assert ledger.emergency_stop.begin(NOW, "mia@shop").anew
    again = ledger.emergency_stop.begin(NOW + 60, "ben@office")
    ledger.batches.resume("spring", NOW)  # a batch's own resume does not lift it

    assert not again.anew
    assert (again.stop.since, again.stop.by) == (NOW, "mia@shop")
    assert not ledger.claims.submits("main", NOW, lease=90).intents
    assert ledger.reports.progress("spring").stop == again.stop

    assert ledger.emergency_stop.lift() == again.stop
    assert ledger.emergency_stop.lift() is None
    assert {intent.batch_id for intent in ledger.claims.submits("main", NOW, lease=90).intents} == {
        ledger.batches.find("spring").id
    }


def test_what_was_claimed_before_the_stop_is_told_apart_by_what_became_of_it(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(3))
    claimed = [intent.attempt_id for intent in ledger.claims.submits("main", NOW, lease=90).intents]

    assert ledger.emergency_stop.begin(NOW, "mia@shop").claimed == set(claimed)
    taken, back, _ = claimed
    ledger.facts.record(
        [
            SubmitAccepted(attempt_id=taken, at=NOW, task_id="t", poll_path=None, next_poll_at=NOW + 1),
            SubmitRefused(attempt_id=back, at=NOW, kind=Kind.TRANSIENT, code="not_sent", message="", retry_after=0.0),
        ],
    )

    fates = ledger.emergency_stop.fates(claimed)
    assert (fates.open, fates.given_back) == (1, 1)


def test_polls_and_sweeps_go_on_and_nobody_is_rung_to_submit(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(3))
    (first, *_) = ledger.claims.submits("main", NOW, lease=90, at_most=1).intents
    ledger.facts.record(
        [SubmitAccepted(attempt_id=first.attempt_id, at=NOW, task_id="t", poll_path=None, next_poll_at=NOW)]
    )
    ledger.emergency_stop.begin(NOW, "mia@shop")

    assert ledger.facts.sweep(NOW + 1).wakeups == {"poll:main"}
    assert len(ledger.claims.polls("main", NOW + 1, lease=60)[0]) == 1


def test_a_stop_waits_for_claims_that_are_under_way(postgres_ledger_url):
    """On SQLite there is one writer anyway."""
    with contextlib.closing(open_ledger(postgres_ledger_url)) as ledger:
        stocked_ledger.stock(ledger, stocked_ledger.rows(3))
        begun, go = threading.Event(), threading.Event()

        def claim_slowly() -> None:
            with ledger._database.writing() as tx:
                submits.claim_submits(tx, "main", NOW, SLOW)
                begun.set()
                go.wait(60)

        claimer = threading.Thread(target=claim_slowly)
        claimer.start()
        assert begun.wait(60)
        stops: list[frozenset[int]] = []
        stopper = threading.Thread(target=lambda: stops.append(ledger.emergency_stop.begin(NOW, "mia@shop").claimed))
        stopper.start()
        _wait_for_a_waiting_lock(ledger, stopper)
        go.set()
        claimer.join()
        stopper.join()

        assert len(stops[0]) == 3, "it saw what was claimed while it waited"


def _wait_for_a_waiting_lock(ledger, stopper) -> None:
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    while stopper.is_alive():
        with ledger._database.reading() as tx:
            if tx.exec_driver_sql(waiting).scalar_one():
                return
    raise AssertionError("the stop did not wait")
