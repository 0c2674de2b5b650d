"""What is wrong with a destination is heard by every claim, holds up its own batches only, and ends by itself."""

from __future__ import annotations

import contextlib
import dataclasses

import pytest

from jobs.facts import ImageDelayed
from jobs.ledger import open_ledger
from jobs.ledger.accounts import destinations
from jobs.ledger.accounts.worker_values import DestinationTrouble
from jobs.policy.copy_headroom import ENOUGH_WAITING, SAVED_BEFORE
from jobs.states import TroubleKind
from tests.support import money_history, stocked_ledger
from tests.support.stocked_ledger import NOW

REFUSES = DestinationTrouble(dest="/tmp/dest", kind=TroubleKind.REFUSES, since=NOW, code="bucket_denied", message="403")
BEHIND = dataclasses.replace(REFUSES, kind=TroubleKind.BEHIND, code="copies_behind", message="slow")


def generated(ledger, lives, **batch):
    """Images that wait, with links of so many seconds."""
    stocked_ledger.stock(ledger, stocked_ledger.rows(len(lives)), **batch)
    intents = []
    while more := ledger.claims.submits("main", NOW, lease=90, at_most=1000).intents:
        intents += more
    ledger.facts.record([money_history.accepted(intent) for intent in intents])
    done = [
        dataclasses.replace(money_history.succeeded(intent), images=(stocked_ledger.made(expires_at=NOW + life),))
        for intent, life in zip(intents, lives, strict=True)
    ]
    ledger.facts.record(done)


@pytest.mark.parametrize("trouble", [REFUSES, BEHIND], ids=["refuses", "behind"])
def test_nothing_new_is_sent_for_a_destination_in_trouble_and_other_batches_go_on(ledger, trouble):
    stocked_ledger.stock(ledger, stocked_ledger.rows(2))
    stocked_ledger.stock(ledger, stocked_ledger.rows(2), name="autumn", dest="/tmp/other")
    ledger.destinations.say_troubles("one", [trouble], NOW)

    claimed = ledger.claims.submits("main", NOW, lease=90).intents

    others = ledger.batches.find("autumn")
    assert {intent.batch_id for intent in claimed} == {others.id}
    assert len(claimed) == 2
    (told,) = ledger.reports.progress("spring", NOW).troubles
    assert (told.code, told.said_by) == (trouble.code, "one")
    assert ledger.reports.progress("autumn", NOW).troubles == ()


def test_submits_go_on_when_it_is_unsaid_and_when_nobody_repeats_it(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(2))
    ledger.destinations.say_troubles("one", [REFUSES], NOW)
    ledger.destinations.say_troubles("dead", [BEHIND], NOW)
    ledger.destinations.say_troubles("one", [], NOW + 1)

    assert stocked_ledger.claim(ledger, NOW + 1) == 0
    assert stocked_ledger.claim(ledger, NOW + destinations.SAID_FOR + 0.1) == 2


def test_on_sqlite_a_new_run_forgets_what_dead_ones_said(sqlite_ledger_url):
    with contextlib.closing(open_ledger(sqlite_ledger_url)) as ledger:
        ledger.destinations.say_troubles("killed", [REFUSES], NOW)
        with ledger.hold(NOW):
            assert ledger.destinations.troubles(NOW) == ()


def test_what_is_said_again_is_told_once_with_its_beginning(ledger):
    ledger.destinations.say_troubles("one", [REFUSES], NOW)
    ledger.destinations.say_troubles("two", [dataclasses.replace(REFUSES, since=NOW - 5)], NOW)
    ledger.destinations.say_troubles("one", [REFUSES], NOW + 25)

    (told,) = ledger.destinations.troubles(NOW + 26)

    assert (told.since, told.said_by) == (NOW - 5, "two")
    assert [trouble.said_by for trouble in ledger.destinations.troubles(NOW + 40)] == ["one"]


def test_copies_to_a_barred_destination_are_left_and_the_others_are_taken(ledger):
    generated(ledger, [SAVED_BEFORE + 100.0])
    generated(ledger, [200.0], name="autumn", dest="/tmp/other")

    due, next_at = ledger.claims.copies(NOW, holder="me", lease=60, at_most=5, barred=["/tmp/dest"])

    assert [one.batch for one in due] == ["autumn"]
    assert next_at == NOW + 60


def test_of_a_barred_destination_only_what_soon_dies_is_taken_and_what_is_kept_is_not(ledger):
    generated(ledger, [SAVED_BEFORE - 1, SAVED_BEFORE - 2, SAVED_BEFORE + 1])
    (kept, *_), _ = ledger.claims.copies(NOW, holder="me", lease=0, at_most=1)
    why = {"code": "bucket_denied", "message": ""}
    ledger.facts.record([ImageDelayed(image_id=kept.image_id, at=NOW, next_copy_at=NOW, spool="/spool/1", **why)])

    due, next_at = ledger.claims.copies(NOW + 0.5, holder="me", lease=60, at_most=5, barred=["/tmp/dest"])

    assert [one.expires_at - NOW for one in due] == [SAVED_BEFORE - 1]
    assert next_at == NOW + 60.5


def test_what_a_bucket_refused_is_tried_at_once_when_it_takes_again(ledger):
    generated(ledger, [100.0, 200.0])
    due, _ = ledger.claims.copies(NOW, holder="me", lease=60, at_most=5)
    codes = ("bucket_denied", "truncated")
    wait = {"at": NOW, "next_copy_at": NOW + 50, "message": ""}
    delays = [ImageDelayed(image_id=one.image_id, code=code, **wait) for one, code in zip(due, codes, strict=True)]
    ledger.facts.record(delays)

    ledger.destinations.hasten_copies("/tmp/dest", NOW + 1)

    assert [one.expires_at for one in ledger.claims.copies(NOW + 1, holder="me", lease=60, at_most=5)[0]] == [NOW + 100]


def test_what_waits_is_counted_by_destination_and_by_when_its_links_die(ledger):
    lives = [float(10 * number) for number in range(1, 2 * ENOUGH_WAITING + 1)]
    generated(ledger, [*lives, -5.0])
    generated(ledger, [50.0], name="autumn", dest="/tmp/other")
    stocked_ledger.stock(ledger, stocked_ledger.rows(3, first=100), name="winter")
    stocked_ledger.claim(ledger, NOW)

    found = ledger.destinations.backlogs(NOW)

    spring = found["/tmp/dest"]
    assert spring.waiting == len(lives), "a dead link is no reason to hurry"
    assert all(sum(life <= dies - NOW for life in lives) == k for k, dies in spring.deaths)
    assert max(dies for _, dies in spring.deaths) == NOW + max(lives)
    assert found["/tmp/other"].deaths == ((1, NOW + 50.0),)
    money_history.end_copies(ledger, 4, stored=True)
    soon, later = (
        ledger.destinations.backlogs(NOW + 5)["/tmp/dest"],
        ledger.destinations.backlogs(NOW + 30)["/tmp/dest"],
    )
    assert (soon.stored_short, soon.stored_long) == (4, 4)
    assert (later.stored_short, later.stored_long) == (0, 4)
