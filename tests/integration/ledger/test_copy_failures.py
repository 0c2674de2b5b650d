"""Where images fail to be stored one after the other nothing more is bought: just there, until one is stored."""

from __future__ import annotations

import contextlib
import dataclasses
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import create_engine, insert, select, text

from jobs.facts import ImageChecked, ImageDelayed, ImageStored
from jobs.ledger import open_ledger
from jobs.ledger.accounts.worker_values import DestinationTrouble
from jobs.ledger.database.schema import accounts, copy_failures
from jobs.policy.copy_failures import BEGUN, ENOUGH, FIRST_PROBE
from jobs.states import TroubleKind
from tests.support import money_history, stocked_ledger
from tests.support.patience import AT_LAST, until
from tests.support.stocked_ledger import NOW

HTML = "not_an_image"


def buy(ledger, count, *, account="main", now=NOW, only=None):
    """Provider tasks that are made at once; their images wait to be copied."""
    intents = []
    while len(intents) < count:
        wanted = {"lease": 90, "at_most": count - len(intents), "only": only}
        claimed = ledger.claims.submits(account, now, **wanted).intents
        if not claimed:
            break
        intents += claimed
    taken = [dataclasses.replace(money_history.accepted(one), task_id=f"task-{one.attempt_id}") for one in intents]
    ledger.facts.record(taken)
    ledger.facts.record([money_history.succeeded(intent) for intent in intents])
    return len(intents)


def due(ledger, count, now=NOW):
    return ledger.claims.copies(now, holder="me", lease=60, at_most=count)[0]


def fail(ledger, copies, code=HTML, now=NOW):
    told = {"at": now, "next_copy_at": now + 200, "code": code, "message": "HTML came"}
    return ledger.facts.record([ImageDelayed(image_id=copy.image_id, **told) for copy in copies])


def store(ledger, copies, now=NOW):
    what = {"sha256": "ab" * 32, "bytes": 9, "width": 4, "height": 4, "format": "png"}
    facts = []
    for copy in copies:
        facts += [ImageChecked(image_id=copy.image_id, object_path=f"{copy.image_id}.png", **what)]
        facts += [ImageStored(image_id=copy.image_id, at=now)]
    return ledger.facts.record(facts)


def buy_and_fail(ledger, count, **how):
    buy(ledger, count, **{name: value for name, value in how.items() if name in {"account", "now", "only"}})
    return fail(ledger, due(ledger, count), code=how.get("code", HTML))


def test_twenty_that_fail_in_a_row_stop_buying_and_say_whose_why_and_how_much(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(200))
    buy_and_fail(ledger, ENOUGH - 1)
    assert ledger.claims.failing(NOW) == ()

    recorded = buy_and_fail(ledger, 1)

    assert buy(ledger, 1) == 0
    (failing,) = ledger.claims.failing(NOW)
    assert recorded.stopped[0].account == "main"
    assert (failing.account, failing.provider, failing.provider_model, failing.dest) == (
        "main",
        "maxapi.io",
        None,
        None,
    )
    assert (failing.images, failing.money) == (ENOUGH, ENOUGH * stocked_ledger.PRICE)
    assert (failing.code, failing.message, failing.since) == (HTML, "HTML came", NOW)
    assert ledger.reports.progress("spring", NOW).failing == (failing,)


def test_it_is_on_record_so_whoever_comes_next_buys_nothing_either(sqlite_ledger_url):
    with contextlib.closing(open_ledger(sqlite_ledger_url)) as ledger:
        stocked_ledger.stock(ledger, stocked_ledger.rows(100))
        buy_and_fail(ledger, ENOUGH)
    with contextlib.closing(open_ledger(sqlite_ledger_url)) as ledger:
        assert buy(ledger, 1) == 0


def test_a_stored_image_ends_it_and_hastens_what_failed(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(100))
    buy(ledger, ENOUGH + 1)
    copies = due(ledger, ENOUGH + 1)
    fail(ledger, copies[1:])

    recorded = store(ledger, copies[:1], NOW + 1)

    assert [failing.images for failing in recorded.mended if failing.provider_model is None] == [ENOUGH]
    assert {"copy", "submit:main"} <= recorded.wakeups
    assert len(due(ledger, 100, NOW + 1)) == ENOUGH
    assert ledger.claims.failing(NOW) == ()
    assert buy(ledger, 1, now=NOW + 1) == 1


def test_one_image_that_fails_again_and_again_counts_once(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(100))
    buy(ledger, 1)
    for hour in range(2 * ENOUGH):
        fail(ledger, due(ledger, 1, NOW + 3600 * hour), now=NOW + 3600 * hour)

    assert buy(ledger, 1, now=NOW) == 1


def test_what_is_stored_between_them_stops_nobody(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(200))
    for _ in range(10):
        buy(ledger, 10)
        copies = due(ledger, 10)
        fail(ledger, copies[:3])
        store(ledger, copies[3:])

    assert ledger.claims.failing(NOW) == ()
    assert buy(ledger, 1) == 1


def test_images_that_only_wait_for_a_slow_link_stop_nobody(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(200))
    buy(ledger, 100)
    copies = due(ledger, BEGUN)
    store(ledger, copies[:1])
    fail(ledger, copies[1:])

    assert buy(ledger, 1) == 1


def test_once_a_few_have_failed_no_more_is_bought_than_is_known_to_be_storable(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(200))
    buy(ledger, 2 * ENOUGH)
    copies = due(ledger, BEGUN)
    fail(ledger, copies)

    assert buy(ledger, 1) == 0
    assert ledger.claims.failing(NOW) == (), "nothing is said before enough have failed"

    store(ledger, due(ledger, 1))
    assert buy(ledger, 1) == 1


def test_what_waits_for_a_bucket_that_is_away_counts_for_nobody(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(200))
    ledger.batches.record_manifest(
        stocked_ledger.new_batch("autumn", dest="/tmp/other"), stocked_ledger.rows(50, prompt="a vase"), now=NOW
    )
    buy(ledger, BEGUN, only="autumn")
    fail(ledger, due(ledger, BEGUN))
    buy(ledger, 2 * ENOUGH, only="spring")
    assert buy(ledger, 1, only="autumn") == 0

    away = DestinationTrouble(
        dest="/tmp/dest", kind=TroubleKind.REFUSES, since=NOW, code="bucket_denied", message="403"
    )
    ledger.destinations.say_troubles("one", [away], NOW)

    assert buy(ledger, 1, only="autumn") == 1


def test_a_probe_is_sent_now_and_then_one_at_a_time(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(200))
    buy_and_fail(ledger, ENOUGH)

    assert buy(ledger, 5, now=NOW + FIRST_PROBE - 1) == 0
    assert buy(ledger, 5, now=NOW + FIRST_PROBE + 1) == 1
    assert buy(ledger, 5, now=NOW + 2 * FIRST_PROBE) == 0
    assert buy(ledger, 5, now=NOW + 3 * FIRST_PROBE + 2) == 1


def test_where_nothing_is_left_whose_copy_could_tell_a_probe_is_sent_soon(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(200))
    buy_and_fail(ledger, ENOUGH)
    waiting = ledger.images.awaited("spring", [f"k{number}" for number in range(ENOUGH)], NOW)
    ledger.images.give_up([image.image_id for image in waiting], NOW + 1)

    assert buy(ledger, 5, now=NOW + 31) == 1
    assert buy(ledger, 5, now=NOW + 62) == 0


def leave_to_a_person(ledger, copies, now):
    told = {"at": now, "next_copy_at": None, "code": "forbidden_address", "message": "10.0.0.1"}
    ledger.facts.record([ImageDelayed(image_id=copy.image_id, **told) for copy in copies])


def bought_in(ledger, hours, start):
    """Images bought while each fails at once for good, with somebody asking every two minutes."""
    bought = 0
    for now in range(int(start), int(start + 3600 * hours), 120):
        if count := buy(ledger, 5, now=now):
            bought += count
            leave_to_a_person(ledger, due(ledger, count, now), now)
    return bought


def test_a_night_in_which_only_a_person_could_help_buys_a_handful_of_images(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(1000))
    buy(ledger, ENOUGH)
    leave_to_a_person(ledger, due(ledger, ENOUGH), NOW)

    assert 5 <= bought_in(ledger, 8, NOW) <= 20


def test_after_a_person_went_on_it_is_found_out_soon_whether_it_is_mended(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(1000))
    buy(ledger, ENOUGH)
    leave_to_a_person(ledger, due(ledger, ENOUGH), NOW)
    bought_in(ledger, 2, NOW)
    morning = NOW + 2 * 3600

    ledger.batches.resume("spring", morning)
    waiting = due(ledger, 1000, morning)
    leave_to_a_person(ledger, waiting, morning)

    assert (len(waiting) > ENOUGH, buy(ledger, 5, now=morning)) == (True, 0)
    assert buy(ledger, 5, now=morning + 31) == 1


def other_model(row):
    return dataclasses.replace(row, provider_model="grok-imagine/text-to-image-pro", key=f"g{row.position}")


def test_the_model_is_to_blame_where_others_of_the_account_are_stored(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(100))
    stocked_ledger.stock(ledger, [other_model(row) for row in stocked_ledger.rows(100)], name="grok")
    for _ in range(ENOUGH):
        buy_and_fail(ledger, 1, only="grok")
        buy(ledger, 1, only="spring")
        store(ledger, due(ledger, 1))

    (failing,) = ledger.claims.failing(NOW)
    assert failing.provider_model == "grok-imagine/text-to-image-pro"
    assert buy(ledger, 1, only="grok") == 0
    assert buy(ledger, 2, only="spring") == 2
    assert ledger.reports.progress("spring", NOW).failing == ()
    assert ledger.reports.progress("grok", NOW).failing == (failing,)


def test_another_account_goes_on_and_what_was_never_tried_is_tried_once(ledger):
    ledger.accounts.sync([stocked_ledger.account(), stocked_ledger.account(name="dev", provider="maxapi.dev")])
    elsewhere = [
        dataclasses.replace(row, provider="maxapi.dev", key=f"d{row.position}") for row in stocked_ledger.rows(50)
    ]
    ledger.batches.record_manifest(stocked_ledger.new_batch("dev"), elsewhere, now=NOW)
    ledger.batches.record_manifest(stocked_ledger.new_batch(), stocked_ledger.rows(50), now=NOW)
    ledger.batches.record_manifest(
        stocked_ledger.new_batch("autumn", dest="/tmp/other"), stocked_ledger.rows(50, prompt="a vase"), now=NOW
    )
    buy_and_fail(ledger, ENOUGH, only="spring")

    assert buy(ledger, 5, account="dev") == 5
    assert buy(ledger, 5, only="autumn") == 1, "one submit for another destination, to see"
    (copy,) = [copy for copy in due(ledger, 100) if copy.batch == "autumn"]
    store(ledger, [copy])
    assert buy(ledger, 5, only="autumn") == 5


@pytest.mark.parametrize("code", ["bucket_refused", "disk_full"])
def test_a_destination_that_takes_none_is_to_blame_for_whatever_account(ledger, code):
    ledger.accounts.sync([stocked_ledger.account(), stocked_ledger.account(name="dev", provider="maxapi.dev")])
    elsewhere = [
        dataclasses.replace(row, provider="maxapi.dev", key=f"d{row.position}") for row in stocked_ledger.rows(50)
    ]
    ledger.batches.record_manifest(stocked_ledger.new_batch(), [*stocked_ledger.rows(50), *elsewhere], now=NOW)
    ledger.batches.record_manifest(
        stocked_ledger.new_batch("autumn", dest="/tmp/other"), stocked_ledger.rows(50, prompt="a vase"), now=NOW
    )
    buy(ledger, ENOUGH // 2, only="spring")
    buy(ledger, ENOUGH // 2, account="dev")
    fail(ledger, due(ledger, ENOUGH), code)

    (failing,) = ledger.claims.failing(NOW)
    assert (failing.account, failing.dest, failing.images) == (None, "/tmp/dest", ENOUGH)
    assert buy(ledger, 1, only="spring") == 0
    assert buy(ledger, 2, only="autumn") == 2


def test_a_bucket_that_asks_for_a_slower_pace_stops_nothing(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(100))
    buy_and_fail(ledger, ENOUGH, code="bucket_slow_down")

    assert buy(ledger, 1) == 1


@pytest.mark.parametrize("word", ["resume", "the same command"])
def test_a_person_who_goes_on_has_what_failed_copied_at_once(ledger, word):
    stocked_ledger.stock(ledger, stocked_ledger.rows(100))
    buy_and_fail(ledger, ENOUGH)
    assert due(ledger, 100, NOW + 61) == []

    if word == "resume":
        ledger.batches.resume("spring", NOW + 61)
    else:
        stocked_ledger.stock(ledger, stocked_ledger.rows(100))

    assert len(due(ledger, 100, NOW + 61)) == ENOUGH


def test_workers_that_record_at_once_lose_no_count(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(200))
    buy(ledger, 4 * ENOUGH)
    copies = due(ledger, 4 * ENOUGH)
    parts = [copies[start::8] for start in range(8)]

    with ThreadPoolExecutor(8) as workers:
        list(workers.map(lambda part: [fail(ledger, [copy]) for copy in part], parts))

    (failing,) = ledger.claims.failing(NOW)
    assert failing.images == 4 * ENOUGH

    again = due(ledger, 4 * ENOUGH, NOW + 300)
    with ThreadPoolExecutor(8) as workers:
        list(workers.map(lambda copy: store(ledger, [copy], NOW + 300), again))
    assert ledger.claims.failing(NOW) == ()
    assert ledger.reports.progress("spring", NOW).images_stored == 4 * ENOUGH


def test_a_probe_goes_out_although_the_first_image_of_its_kind_is_told_to_fail_at_that_moment(postgres_ledger_url):
    ledger = open_ledger(postgres_ledger_url)
    stocked_ledger.stock(ledger, stocked_ledger.rows(100))
    stocked_ledger.stock(ledger, [other_model(row) for row in stocked_ledger.rows(100)], name="grok")
    buy_and_fail(ledger, ENOUGH, only="spring")
    engine = create_engine(postgres_ledger_url)
    cell = {"account_id": _account_id(engine), "provider_model": other_model(stocked_ledger.rows(1)[0]).provider_model}
    failing_now = insert(copy_failures).values(**cell, dest="/tmp/dest", images=1, probe_at=NOW)

    with ThreadPoolExecutor(1) as threads:
        with engine.begin() as another:
            another.execute(failing_now)
            claim = threads.submit(ledger.claims.submits, "main", NOW, lease=90, at_most=5, only="grok")
            until(lambda: claim.done() or _somebody_waits(engine))
        assert len(claim.result(AT_LAST).intents) == 1

    ledger.close()
    engine.dispose()


def _somebody_waits(engine):
    with engine.connect() as connection:
        return connection.execute(text("SELECT count(*) FROM pg_locks WHERE NOT granted")).scalar_one()


def _account_id(engine):
    with engine.connect() as connection:
        return connection.execute(select(accounts.c.id).where(accounts.c.name == "main")).scalar_one()


def test_it_is_told_whose_images_they_are_and_when_one_submit_tries_again(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(100))
    stocked_ledger.stock(ledger, stocked_ledger.rows(10), name="summer")
    buy_and_fail(ledger, ENOUGH, only="spring")

    (failing,) = ledger.reports.progress("summer", NOW).failing

    assert (failing.batch, failing.next_try_at) == ("spring", NOW + FIRST_PROBE)
    assert ledger.reports.progress("summer", NOW + FIRST_PROBE).failing[0].next_try_at is None
    assert buy(ledger, 2, now=NOW + FIRST_PROBE, only="summer") == 1
