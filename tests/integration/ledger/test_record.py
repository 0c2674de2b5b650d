"""Facts stand above leases and states; recording one twice changes nothing; the books always close."""

from __future__ import annotations

import dataclasses
import json
import random
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from jobs.errors import BadInput
from jobs.facts import (
    ImageChecked,
    ImageDelayed,
    ImageLost,
    ImageStored,
    PartDelivered,
    SubmitAccepted,
    SubmitRefused,
    SubmitUnclear,
    TaskFailed,
    TaskStillRunning,
    TaskSucceeded,
)
from jobs.ledger import open_ledger
from jobs.ledger.accounts.daily_budgets import day_of
from jobs.ledger.database.schema import attempts, batches, days, images, jobs
from jobs.policy.doubts import Doubt, Doubted
from jobs.results.progress import images_to_come
from jobs.states import AttemptState, ImageState, JobState
from providers.types import Kind, Request
from tests.support import stocked_ledger
from tests.support.ledger_sums import check_money
from tests.support.stocked_ledger import NOW, PRICE


@pytest.fixture
def intent(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(1))
    return ledger.claims.submits("main", NOW, lease=90).intents[0]


def accepted(attempt_id, task="task-1", at=NOW):
    return SubmitAccepted(attempt_id=attempt_id, at=at, task_id=task, poll_path=None, next_poll_at=at)


def succeeded(attempt_id, count=1, at=NOW):
    return TaskSucceeded(attempt_id=attempt_id, at=at, images=tuple(stocked_ledger.made() for _ in range(count)))


def refused(attempt_id, kind=Kind.PERMANENT, code="invalid_parameters", at=NOW, **more):
    return SubmitRefused(attempt_id=attempt_id, at=at, kind=kind, code=code, message="no", **more)


def unclear(attempt_id, at=NOW):
    return SubmitUnclear(attempt_id=attempt_id, at=at, code="connection_lost", message="cut off", raw="HTTP/1.1 2")


def failed(attempt_id, kind=Kind.TRANSIENT, code="provider_failed", at=NOW, **more):
    return TaskFailed(attempt_id=attempt_id, at=at, kind=kind, code=code, message="no", **more)


def store(ledger, count=10):
    due, _ = ledger.claims.copies(NOW + 1e6, holder="me", lease=60, at_most=count)
    for image in due:
        size = {"bytes": 9, "width": 1, "height": 1, "format": "png"}
        checked = ImageChecked(image_id=image.image_id, object_path="a/0.png", sha256="ab", **size)
        ledger.facts.record([checked, ImageStored(image_id=image.image_id, at=NOW)])
    return due


def state(ledger):
    (only,) = ledger.reports.progress("spring").jobs
    return only


def test_an_accepted_and_finished_image_is_copied_and_its_row_is_done(ledger, intent):
    ledger.facts.record([accepted(intent.attempt_id)])
    assert state(ledger) is JobState.WORKING
    ledger.facts.record([succeeded(intent.attempt_id)])

    store(ledger)

    progress = ledger.reports.progress("spring")
    assert progress.jobs == {JobState.DONE: 1}
    assert (progress.batch.charged, progress.batch.reserved) == (PRICE, 0)


def test_a_fact_told_twice_changes_nothing(ledger, intent):
    for _ in range(2):
        ledger.facts.record([accepted(intent.attempt_id)])
    for _ in range(2):
        ledger.facts.record([succeeded(intent.attempt_id), succeeded(intent.attempt_id)])

    assert len(store(ledger)) == 1
    assert ledger.reports.progress("spring").batch.charged == PRICE


def test_an_answer_after_the_lease_ended_counts(ledger, intent):
    ledger.facts.sweep(NOW + 91)
    assert state(ledger) is JobState.HELD

    ledger.facts.record([accepted(intent.attempt_id, at=NOW + 200)])
    ledger.facts.record([succeeded(intent.attempt_id)])
    store(ledger)

    assert state(ledger) is JobState.DONE


def test_an_unknown_attempt_is_held_with_its_money_and_never_claimed_again(ledger, intent):
    ledger.facts.record([unclear(intent.attempt_id)])

    progress = ledger.reports.progress("spring")
    assert progress.jobs == {JobState.HELD: 1}
    assert progress.unknown_money == progress.batch.reserved == PRICE
    assert stocked_ledger.claim(ledger, NOW + 1e6) == 0
    (listed,) = ledger.unknowns.all("spring")
    assert (listed.key, listed.money, listed.code) == ("k0", PRICE, "connection_lost")


def test_paying_again_frees_the_slot_and_a_late_success_becomes_surplus(ledger, intent):
    ledger.facts.record([unclear(intent.attempt_id)])
    assert ledger.unknowns.resolve([intent.attempt_id], "pay-again", NOW) == 1
    (again,) = ledger.claims.submits("main", NOW + 1e6, lease=90).intents
    ledger.facts.record([accepted(again.attempt_id, "task-2"), succeeded(again.attempt_id)])

    ledger.facts.record([accepted(intent.attempt_id, "task-1")])
    polled, _ = ledger.claims.polls("main", NOW, lease=60)
    ledger.facts.record([succeeded(intent.attempt_id)])

    assert [poll.task_id for poll in polled] == ["task-1"]
    assert sorted(image.surplus for image in store(ledger)) == [False, True]
    assert ledger.reports.progress("spring").batch.charged == 2 * PRICE
    assert ledger.reports.progress("spring").jobs == {JobState.DONE: 1}


def test_a_late_task_that_was_paid_again_is_asked_about_until_all_its_images_are_named(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(1, n=2))
    (one,) = ledger.claims.submits("main", NOW, lease=90).intents
    ledger.facts.record([unclear(one.attempt_id)])
    ledger.unknowns.resolve([one.attempt_id], "pay-again", NOW)
    ledger.facts.record([accepted(one.attempt_id)])  # a callback has named its task
    first, second = (stocked_ledger.made(f"https://cdn.example/{place}.png?sig=1") for place in range(2))
    part = PartDelivered(attempt_id=one.attempt_id, at=NOW + 1, images=(first,), next_poll_at=NOW + 5)
    ledger.facts.record([part, still(one.attempt_id, NOW + 1, doubt=Doubt.SHORT, code=Doubt.SHORT.value)])

    assert doubted(ledger, NOW + 9) == Doubted(code=Doubt.SHORT, since=NOW + 1, answers=1)
    ledger.facts.record([TaskSucceeded(attempt_id=one.attempt_id, at=NOW + 9, images=(first, second))])

    assert len(store(ledger)) == 2
    assert check_money(ledger).charged == 2 * PRICE


def test_giving_up_ends_the_row_and_its_money_counts_as_spent(ledger, intent):
    ledger.facts.record([unclear(intent.attempt_id)])

    ledger.unknowns.resolve([intent.attempt_id], "give-up", NOW)

    progress = ledger.reports.progress("spring")
    assert progress.jobs == {JobState.FAILED: 1}
    assert (progress.batch.reserved, progress.batch.charged, progress.lost_money) == (0, PRICE, PRICE)


def test_a_task_found_by_a_person_is_polled(ledger, intent):
    ledger.facts.record([unclear(intent.attempt_id)])

    ledger.unknowns.resolve([intent.attempt_id], "found", NOW, task_id="seen-in-console")

    (due,), _ = ledger.claims.polls("main", NOW, lease=60)
    assert due.task_id == "seen-in-console"


def test_a_provider_task_that_belongs_to_another_row_cannot_be_adopted(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(2))
    mine, other = ledger.claims.submits("main", NOW, lease=90).intents
    ledger.facts.record([unclear(mine.attempt_id), accepted(other.attempt_id, "theirs")])

    with pytest.raises(BadInput, match=f"belongs to key {other.key}"):
        ledger.unknowns.resolve([mine.attempt_id], "found", NOW, task_id="theirs")

    assert len(ledger.unknowns.all("spring")) == 1


def test_a_moderated_row_fails_at_once_and_costs_nothing(ledger, intent):
    ledger.facts.record([refused(intent.attempt_id, Kind.MODERATION, "moderation")])

    progress = ledger.reports.progress("spring")
    assert progress.errors == {"moderation": 1}
    assert (progress.jobs, progress.batch.reserved) == ({JobState.FAILED: 1}, 0)
    assert ledger.batches.retry("spring", NOW) == 0
    assert ledger.batches.retry("spring", NOW, error="moderation") == 1
    assert state(ledger) is JobState.READY


def test_what_was_not_sent_is_free_to_go_again(ledger, intent):
    ledger.facts.record([refused(intent.attempt_id, Kind.TRANSIENT, "not_sent", retry_after=3)])

    assert stocked_ledger.claim(ledger, NOW + 2) == 0
    assert stocked_ledger.claim(ledger, NOW + 3) == 1


def test_a_failed_provider_task_is_tried_again_at_most_twice(ledger, intent):
    now, tries = NOW, 0
    ledger.facts.record([accepted(intent.attempt_id), failed(intent.attempt_id)])
    while claimed := ledger.claims.submits("main", (now := now + 1000), lease=90).intents:
        tries += 1
        ledger.facts.record([accepted(claimed[0].attempt_id, f"t{tries}"), failed(claimed[0].attempt_id, at=now)])

    assert tries == 2
    assert ledger.reports.progress("spring").errors == {"provider_failed": 1}
    assert ledger.reports.progress("spring").batch.charged == 0


def test_a_short_delivery_is_topped_up(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(1, n=4))
    (first,) = ledger.claims.submits("main", NOW, lease=90).intents
    ledger.facts.record([accepted(first.attempt_id), succeeded(first.attempt_id, count=3)])

    (second,) = ledger.claims.submits("main", NOW + 1000, lease=90).intents

    assert second.slots == (3,)
    assert ledger.reports.progress("spring").batch.charged == 3 * PRICE


def test_more_images_than_asked_are_kept_as_surplus(ledger, intent):
    ledger.facts.record([accepted(intent.attempt_id), succeeded(intent.attempt_id, count=3)])

    assert sorted(image.surplus for image in store(ledger)) == [False, True, True]
    assert state(ledger) is JobState.DONE


def test_an_image_whose_link_died_is_lost_and_can_be_made_again(ledger, intent):
    ledger.facts.record([accepted(intent.attempt_id), succeeded(intent.attempt_id)])
    (due,), _ = ledger.claims.copies(NOW, holder="me", lease=60, at_most=5)

    ledger.facts.record([ImageLost(image_id=due.image_id, at=NOW, code="link_dead", message="404")])

    assert ledger.reports.progress("spring").errors == {"link_dead": 1}
    assert ledger.reports.progress("spring").lost_money == PRICE
    assert ledger.batches.retry("spring", NOW) == 1
    assert stocked_ledger.claim(ledger, NOW) == 1


def test_a_delayed_copy_waits_its_time_and_takes_a_fresh_link(ledger, intent):
    ledger.facts.record([accepted(intent.attempt_id), succeeded(intent.attempt_id)])
    (due,), _ = ledger.claims.copies(NOW, holder="me", lease=60, at_most=5)
    fresh = {"url": "https://cdn.example/fresh.png", "expires_at": NOW + 9}
    later = ImageDelayed(image_id=due.image_id, at=NOW, next_copy_at=NOW + 5, code="x", message="503", **fresh)

    ledger.facts.record([later])

    assert ledger.claims.copies(NOW + 4, holder="me", lease=60, at_most=5) == ([], NOW + 5)
    (again,), _ = ledger.claims.copies(NOW + 5, holder="me", lease=60, at_most=5)
    assert (again.url, again.expires_at, again.tries) == ("https://cdn.example/fresh.png", NOW + 9, 1)


def test_text_no_database_can_hold_costs_nobody_its_record(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(2))
    odd, fine = ledger.claims.submits("main", NOW, lease=90).intents
    poison = "\x00 \ud800 " + "x" * 10_000_000
    facts = [
        SubmitUnclear(attempt_id=odd.attempt_id, at=NOW, code="unreadable_answer", message=poison, raw=poison),
        accepted(fine.attempt_id),
    ]

    ledger.facts.record(facts)

    assert len(ledger.reports.story("spring", odd.key).attempts[0].raw) <= 4000
    assert ledger.reports.story("spring", fine.key).attempts[0].state == AttemptState.RUNNING


def test_the_same_odd_answer_to_many_polls_is_one_event_with_its_count(ledger, intent):
    ledger.facts.record([accepted(intent.attempt_id)])
    for code, at in (("bad_json", 1), ("bad_json", 2), ("http_500", 3), ("bad_json", 4)):
        still = TaskStillRunning(attempt_id=intent.attempt_id, at=NOW + at, next_poll_at=NOW, code=code, message="?")
        ledger.facts.record([still, still] if at == 1 else [still])

    odd, other = ledger.reports.story("spring", "k0").events
    assert (odd.at, odd.detail["code"], odd.detail["times"], odd.detail["last_at"]) == (NOW + 1, "bad_json", 4, NOW + 4)
    assert (other.detail["code"], "times" in other.detail) == ("http_500", False)


def still(attempt_id, at, **more):
    return TaskStillRunning(attempt_id=attempt_id, at=at, next_poll_at=at, message="?", **more)


def doubted(ledger, at):
    ((due,), _) = ledger.claims.polls("main", at, lease=0)
    return due.doubted


def test_what_a_task_is_doubted_for_is_counted_until_another_answer_comes(ledger, intent):
    ledger.facts.record([accepted(intent.attempt_id)])
    empty = {"doubt": Doubt.EMPTY, "code": Doubt.EMPTY.value}

    for at in (1, 2, 3):
        said = still(intent.attempt_id, NOW + at, **empty, answers=at)
        ledger.facts.record([said])
        ledger.facts.record([said])  # as after a commit that was not confirmed: it is still one answer
    ledger.facts.record([still(intent.attempt_id, NOW + 4, code="server_error")])
    kept = doubted(ledger, NOW + 5)
    ledger.facts.record([still(intent.attempt_id, NOW + 6, doubt=Doubt.SHORT, code=Doubt.SHORT.value)])
    anew = doubted(ledger, NOW + 7)
    ledger.facts.record([still(intent.attempt_id, NOW + 8)])

    assert kept == Doubted(code=Doubt.EMPTY, since=NOW + 1, answers=3)
    assert anew == Doubted(code=Doubt.SHORT, since=NOW + 6, answers=1)
    assert doubted(ledger, NOW + 9) == Doubted()


def test_a_part_is_paid_and_copied_while_the_rest_keeps_its_money_and_its_slot(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(1, n=2), budget=2 * PRICE)
    (one,) = ledger.claims.submits("main", NOW, lease=90).intents
    ledger.facts.record([accepted(one.attempt_id)])
    first, second = (stocked_ledger.made(f"https://cdn.example/{place}.png?sig=1") for place in range(2))
    part = PartDelivered(attempt_id=one.attempt_id, at=NOW, images=(first,), next_poll_at=NOW + 5)
    ledger.facts.record([part, part])
    asked_on, held = check_money(ledger), state(ledger)
    again = stocked_ledger.made("https://cdn.example/0.png?sig=2")
    ledger.facts.record([TaskSucceeded(attempt_id=one.attempt_id, at=NOW + 5, images=(second, again), cost=30_001)])

    done = check_money(ledger)
    store(ledger)
    assert (asked_on.charged, asked_on.in_flight, held) == (PRICE, PRICE, JobState.WORKING)
    assert (done.charged, done.waiting, done.in_flight) == (30_001, 30_001, 0)
    (result,) = ledger.reports.results("spring")
    assert sorted(image.cost for image in result.images) == [15_000, 15_001]
    assert state(ledger) is JobState.DONE


def test_a_cancelled_batch_sends_no_more_and_keeps_what_is_paid(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(3))
    (first, *_) = ledger.claims.submits("main", NOW, lease=90, at_most=1).intents
    ledger.facts.record([accepted(first.attempt_id)])

    assert ledger.batches.cancel("spring") == 2
    ledger.facts.record([succeeded(first.attempt_id)])
    store(ledger)

    assert stocked_ledger.claim(ledger, NOW) == 0
    assert ledger.reports.progress("spring").jobs == {JobState.CANCELLED: 2, JobState.DONE: 1}


def test_cancel_counts_every_row_that_will_lack_images(ledger):
    stocked_ledger.stock(ledger, [stocked_ledger.row(0, n=2, max_n=1)])
    one, other = ledger.claims.submits("main", NOW, lease=90, at_most=2).intents
    ledger.facts.record([accepted(one.attempt_id, task="t1"), accepted(other.attempt_id, task="t2")])
    ledger.facts.record([failed(other.attempt_id)])  # rests until its next try

    assert ledger.batches.cancel("spring") == 1


def test_a_history_tells_what_went_wrong(ledger, intent):
    ledger.facts.record([unclear(intent.attempt_id)])
    ledger.unknowns.resolve([intent.attempt_id], "pay-again", NOW + 1)

    story = ledger.reports.story("spring", "k0")

    assert [event.name for event in story.events] == ["outcome_unknown", "resolved"]
    assert story.attempts[0].raw == "HTTP/1.1 2"


def test_redoing_a_row_with_another_prompt_leaves_the_manifest_as_it_was(ledger, intent):
    ledger.facts.record([accepted(intent.attempt_id), succeeded(intent.attempt_id)])
    store(ledger)
    chair = Request(prompt="a chair", model="gpt-image-2")

    ledger.batches.redo("spring", [("k0", chair)], NOW)
    ledger.batches.record_manifest(
        stocked_ledger.new_batch(), stocked_ledger.rows(1), now=NOW
    )  # raises, were the row found changed

    (again,) = ledger.claims.submits("main", NOW, lease=90).intents
    assert again.request.prompt == "a chair"
    ledger.facts.record([accepted(again.attempt_id, "task-2"), succeeded(again.attempt_id)])
    (due,) = store(ledger)
    assert (due.revision, due.request_hash) == (2, chair.hash())
    story = ledger.reports.story("spring", "k0")
    assert [image.revision for image in (*story.older, *story.result.images)] == [1, 2]
    assert story.events[0].detail["prompt_before"] == "a lamp 0"


def test_replaced_and_surplus_images_are_counted_beside_those_asked_for(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(2))
    first, second = ledger.claims.submits("main", NOW, lease=90).intents
    ledger.facts.record([accepted(first.attempt_id), succeeded(first.attempt_id, count=2)])
    store(ledger)
    ledger.batches.redo("spring", [(first.key, None)], NOW)
    ledger.facts.record([refused(second.attempt_id)])

    before = ledger.reports.progress("spring")
    (again,) = ledger.claims.submits("main", NOW + 1, lease=90).intents
    ledger.facts.record([accepted(again.attempt_id, "task-2"), succeeded(again.attempt_id)])
    store(ledger)
    after = ledger.reports.progress("spring")

    assert (before.images_stored, before.images_aside, images_to_come(before)) == (0, 2, 1)
    assert (after.images_stored, after.images_aside, images_to_come(after)) == (1, 2, 0)
    assert after.images_total == 2


# -- whatever is told, in whatever order ---------------------------------------------------------------------------

_STEPS = ["claim", "accept", "refuse", "unclear", "succeed", "usage", "part", "short", "fail", "empty", "forget",
          "store", "lose", "sweep", "pay-again", "give-up", "still", "cancel", "redo", "retry"]  # fmt: skip


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=st.lists(st.sampled_from(_STEPS), max_size=40), seed=st.integers(0, 10**6))
def test_whatever_is_told_in_whatever_order_the_books_close(steps, seed):
    chance = random.Random(seed)
    ledger = open_ledger("sqlite://")
    stocked_ledger.stock(ledger, stocked_ledger.rows(4, n=3, max_n=2))
    now, known = NOW, [1]

    for step in steps:
        now += chance.choice([0.1, 5, 100, 40_000])
        known += [i.attempt_id for i in _step(ledger, step, now, chance.choice(known))]
        _check_books(ledger)
    ledger.close()


def _step(ledger, step, now, attempt_id):
    facts = {
        "accept": lambda: [accepted(attempt_id, f"t{attempt_id}", now)],
        "refuse": lambda: [refused(attempt_id, Kind.TRANSIENT, "not_sent", now)],
        "unclear": lambda: [unclear(attempt_id, now)],
        "succeed": lambda: [succeeded(attempt_id, 2, now)],
        "usage": lambda: [dataclasses.replace(succeeded(attempt_id, 2, now), cost=int(now) % 50_001)],
        "part": lambda: [
            PartDelivered(attempt_id=attempt_id, at=now, images=(stocked_ledger.made(),), next_poll_at=now + 5)
        ],
        "short": lambda: [succeeded(attempt_id, 1, now)],
        "fail": lambda: [failed(attempt_id, at=now)],
        "empty": lambda: [failed(attempt_id, Kind.PERMANENT, "no_images", now, charged=True)],
        "forget": lambda: [failed(attempt_id, at=now, forgotten=True)],
        "still": lambda: [TaskStillRunning(attempt_id=attempt_id, at=now, next_poll_at=now + 5, code="x", message="y")],
    }
    if step == "claim":
        return ledger.claims.submits("main", now, lease=90).intents
    if step in facts:
        ledger.facts.record(facts[step]())
    elif step == "store":
        store(ledger, 2)
    elif step == "lose":
        due, _ = ledger.claims.copies(now + 1e6, holder="me", lease=0, at_most=1)
        ledger.facts.record([ImageLost(image_id=d.image_id, at=now, code="link_dead", message="gone") for d in due])
    elif step == "sweep":
        ledger.facts.sweep(now)
    elif step in ("pay-again", "give-up"):
        ledger.unknowns.resolve([attempt_id], step, now)
    elif step == "cancel":
        ledger.batches.cancel("spring")
    elif step == "redo":
        ledger.batches.redo("spring", [("k0", None)], now)
    elif step == "retry":
        ledger.batches.retry("spring", now)
    return ()


def _check_books(ledger):
    check_money(ledger)
    with ledger._database.reading() as tx:
        reserved, charged = tx.execute(select(func.sum(attempts.c.reserved), func.sum(attempts.c.charged))).one()
        batch = tx.execute(select(batches)).one()
        assert (batch.reserved, batch.charged) == (reserved or 0, charged or 0)
        for attempt in tx.execute(select(attempts)):
            open_ = attempt.state in (AttemptState.SUBMITTING, AttemptState.RUNNING, AttemptState.UNKNOWN)
            assert open_ or attempt.reserved == 0
            mine = (images.c.attempt_id == attempt.id, images.c.state == ImageState.MISSING)
            held = tx.execute(select(func.count()).where(*mine)).scalar_one()
            assert open_ or held == 0, "a slot waits for an attempt that has ended"
            assert held <= len(json.loads(attempt.slots))
        _check_days(tx)
        for job in tx.execute(select(jobs)):
            assert (job.state == JobState.READY) == (_free(tx, job) > 0 and not job.closed)


def _check_days(tx):
    """A day's row is what the attempts of that day have reserved and been charged."""
    spent = Counter()
    for attempt in tx.execute(select(attempts)):
        spent[day_of(attempt.created_at), attempt.account_id] += attempt.reserved + attempt.charged
    on_record = {(row.day, row.account_id): row.spent for row in tx.execute(select(days))}
    assert {day: money for day, money in on_record.items() if money} == +spent


def _free(tx, job):
    mine = (images.c.job_id == job.id, images.c.revision == job.revision, images.c.surplus.is_(False))
    free = (images.c.state == ImageState.MISSING, images.c.attempt_id.is_(None))
    return tx.execute(select(func.count()).where(*mine, *free)).scalar_one()
