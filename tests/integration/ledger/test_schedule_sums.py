"""What each time of a schedule has bought: every attempt is counted for one time, with its images, and for good."""

from __future__ import annotations

import random

import pytest
from sqlalchemy import func, select

from jobs.facts import (
    ImageChecked,
    ImageStored,
    SubmitAccepted,
    SubmitRefused,
    SubmitUnclear,
    TaskFailed,
    TaskSucceeded,
)
from jobs.ledger.batches.values import NewBatch
from jobs.ledger.database.schema import attempts, images
from jobs.ledger.schedules.values import Attachment, Bought, Ended, NewSchedule
from jobs.planning.intake import record, survey
from jobs.policy.reuse import Reuse
from jobs.states import FIRING_OPEN, FiringState
from providers.types import Kind
from tests.support.manifest_world import MAIN, World
from tests.support.manifest_world import rows as manifest_rows
from tests.support.stocked_ledger import NOW, PRICE, account, made, new_batch, rows

NIGHTLY = NewSchedule(name="nightly", cron="0 3 * * *", timezone="UTC", options={}, monthly_budget=100 * PRICE)
STOPPED = Ended(state=FiringState.STOPPED, exit_code=4, code="month_budget_used")
DONE = Ended(state=FiringState.ENDED, exit_code=0)


class Shop:
    """A schedule of one batch, whose times come and go while its attempts are sent and settled."""

    def __init__(self, ledger):
        self.ledger, self.now, self.rows = ledger, NOW, 0
        ledger.accounts.sync([account()])
        assert ledger.schedules.add(NIGHTLY, NOW)

    def reads(self):
        """A time is taken, and its manifest is being read."""
        self.now += 60.0
        assert self.ledger.schedules.fire_by_hand("nightly", self.now) is None
        return self.ledger.schedules.take("me", self.now)[1]

    def records(self, firing, more):
        self.rows += more
        attachment = Attachment(firing_id=firing.id, holder="me", detail={"images": more}, seen=None)
        self.ledger.batches.record_manifest(new_batch("nightly"), rows(self.rows), attachment=attachment, now=self.now)

    def sends(self, at_most=1):
        self.now += 1.0
        return self.ledger.claims.submits("main", self.now, lease=90, at_most=at_most, horizon=0.25).intents

    def stores(self, intents):
        """Their images come, and are stored."""
        self.now += 1.0
        for one in intents:
            image = made(f"https://cdn.example/{one.attempt_id}.png", expires_at=self.now + 3600)
            accepted = SubmitAccepted(
                attempt_id=one.attempt_id,
                at=self.now,
                task_id=f"t{one.attempt_id}",
                poll_path=None,
                next_poll_at=self.now,
            )
            self.ledger.facts.record([accepted, TaskSucceeded(attempt_id=one.attempt_id, at=self.now, images=(image,))])
        copies, _ = self.ledger.claims.copies(self.now, holder="me", lease=60, at_most=1_000)
        for copy in copies:
            checked = ImageChecked(
                image_id=copy.image_id,
                object_path=f"nightly/{copy.image_id}.png",
                sha256="0" * 64,
                bytes=1,
                width=1,
                height=1,
                format="png",
            )
            self.ledger.facts.record([checked, ImageStored(image_id=copy.image_id, at=self.now)])

    def ends(self, ended):
        self.now += 1.0
        for _, firing in self.ledger.schedules.going_on():
            if firing.state is FiringState.WORKING:
                self.ledger.schedules.end(firing.id, ended, self.now)

    def times(self):
        """The schedule's times, the oldest first."""
        schedule = self.ledger.schedules.find("nightly")
        return self.ledger.schedules.history(schedule.id, 1_000, with_charges=True)[::-1]

    def bought(self):
        return [each.bought for each in self.times() if each.bought is not None]


@pytest.fixture
def shop(ledger):
    return Shop(ledger)


def test_images_and_charges_of_a_time_that_had_stopped_stay_its_own_when_the_next_one_goes_on(shop):
    shop.records(shop.reads(), 4)
    on_the_way = shop.sends(2)
    shop.ends(STOPPED)
    second = shop.reads()
    on_the_way += shop.sends(1)  # the month was raised while the manifest of the next time is read
    shop.records(second, 0)
    shop.stores(on_the_way)
    shop.stores(shop.sends(9))

    first, last = shop.bought()
    assert (first.images, first.charged, first.images_after) == (3, 3 * PRICE, 1)
    assert (last.images, last.charged, last.images_after) == (1, PRICE, 0)


def test_between_two_looks_no_time_that_is_over_changes_though_the_next_is_recorded(shop):
    shop.records(shop.reads(), 3)
    shop.stores(shop.sends(2))
    shop.ends(STOPPED)
    second = shop.reads()
    shop.stores(shop.sends(1))
    before = shop.bought()

    shop.records(second, 0)

    assert shop.bought() == [*before, Bought()]


def test_what_a_retry_sends_after_the_end_of_a_time_is_told_apart(shop):
    shop.records(shop.reads(), 2)
    good, bad = shop.sends(2)
    shop.stores([good])
    refused = SubmitRefused(attempt_id=bad.attempt_id, at=shop.now, kind=Kind.PERMANENT, code="bad", message="no")
    shop.ledger.facts.record([refused])
    shop.ends(Ended(state=FiringState.ENDED, exit_code=3))
    (before,) = shop.bought()
    shop.ledger.batches.retry("nightly", shop.now)
    shop.stores(shop.sends(2))

    (after,) = shop.bought()
    assert (before.images, before.charged) == (1, PRICE)
    assert (after.images - after.images_after, after.charged - after.charged_after) == (1, PRICE)
    assert (after.images_after, after.charged_after) == (1, PRICE)


def test_what_is_not_settled_when_a_time_ends_is_told_and_settles_there(shop):
    shop.records(shop.reads(), 2)
    (unclear,) = shop.sends(1)
    shop.ledger.facts.record([SubmitUnclear(attempt_id=unclear.attempt_id, at=shop.now, code="cut_off", message="")])
    shop.ends(DONE)
    shop.records(shop.reads(), 1)
    (held, _) = shop.bought()
    shop.stores([unclear])

    (settled, other) = shop.bought()
    assert (held.images, held.charged, held.reserved) == (0, 0, PRICE)
    assert (settled.images, settled.charged, settled.reserved) == (1, PRICE, 0)
    assert other.charged == 0


def test_a_clock_that_was_ahead_moves_no_attempt_to_another_time(shop):
    shop.records(shop.reads(), 2)
    shop.now += 365 * 86_400.0
    shop.stores(shop.sends(1))
    shop.ends(DONE)
    shop.now -= 365 * 86_400.0
    shop.records(shop.reads(), 0)
    shop.stores(shop.sends(1))

    assert [each.images for each in shop.bought()] == [1, 1]


@pytest.mark.parametrize("seed", range(6))
def test_the_times_of_a_schedule_sum_up_to_its_batch_and_each_that_is_over_only_settles(shop, seed):
    chance, flying, reading, over = random.Random(seed), [], None, {}
    for _ in range(60):
        match chance.choice(["read", "send", "send", "settle", "settle", "end", "retry"]):
            case "read" if reading is None and not _is_open(shop):
                reading = shop.reads()
            case "read" if reading is not None:
                shop.records(reading, chance.randrange(4))
                reading = None
            case "send" if shop.rows:
                flying += shop.sends(chance.randrange(1, 4))
            case "settle" if flying:
                _settle(shop, flying.pop(chance.randrange(len(flying))), chance)
            case "end":
                shop.ends(chance.choice([STOPPED, DONE]))
            case "retry" if shop.rows:
                shop.ledger.batches.retry("nightly", shop.now)
        _check(shop, over)


def _is_open(shop):
    return any(each.state in FIRING_OPEN for each in shop.times())


def _settle(shop, intent, chance):
    told = {"attempt_id": intent.attempt_id, "at": shop.now}
    match chance.choice(["made", "made", "failed", "unclear"]):
        case "made":
            shop.stores([intent])
        case "failed":
            refused = SubmitRefused(**told, kind=Kind.PERMANENT, code="bad", message="no")
            shop.ledger.facts.record([refused])
        case "unclear":
            shop.ledger.facts.record([SubmitUnclear(**told, code="cut_off", message="")])
            if chance.random() < 0.5:
                shop.ledger.facts.record(
                    [TaskFailed(**told, kind=Kind.PERMANENT, code="gone", message="", charged=True)]
                )


def _check(shop, over):
    """Each attempt and image is counted once, and the sums of a time that is over change as its attempts settle."""
    told = shop.times()
    with shop.ledger._database.reading() as tx:
        money = select(func.count(), func.sum(attempts.c.charged), func.sum(attempts.c.reserved))
        sent, charged, reserved = (int(each or 0) for each in tx.execute(money).one())
        bought = select(func.count()).where(images.c.state == "stored", images.c.attempt_id.is_not(None))
        stored = tx.execute(bought.select_from(images)).scalar_one()
    sums = [each.bought for each in told if each.bought is not None]
    assert sum(each.sent for each in sums) == sent
    assert sum(each.charged for each in sums) == charged
    assert sum(each.reserved for each in sums) == reserved
    assert sum(each.images for each in sums) == stored
    if sums:
        batch = shop.ledger.batches.find("nightly")
        assert (charged, reserved) == (batch.charged, batch.reserved)
    newest = max((each.id for each in told if each.bought is not None), default=0)
    for each in told:
        if each.bought is not None and each.id < newest:
            last = over.setdefault(each.id, each.bought)
            assert each.bought.sent == last.sent, "nothing is sent for a time when another has been recorded"
            assert each.bought.charged + each.bought.reserved <= last.charged + last.reserved
            assert each.bought.images >= last.images
            over[each.id] = each.bought


def test_images_that_were_made_while_a_manifest_was_recorded_are_told_as_taken_and_not_as_planned(ledger, tmp_path):
    ledger.accounts.sync([MAIN])
    assert ledger.schedules.add(NIGHTLY, NOW)
    assert ledger.schedules.fire_by_hand("nightly", NOW) is None
    _, firing = ledger.schedules.take("me", NOW)
    world, other = (World(tmp_path / name, ledger) for name in ("night", "other"))
    for each in (world, other):
        each.folder.mkdir()
    intake = world.intake(manifest_rows(3), "nightly-1", reuse=Reuse.COPY)
    seen = survey(intake, None, [MAIN])
    assert (seen.images, seen.again.reused) == (3, 0)
    other.made(manifest_rows(2), "other")

    plan = {"images": seen.images, "estimate": seen.needed, "reused": 0, "waiting": 0}
    attachment = Attachment(firing_id=firing.id, holder="me", detail=plan, seen=None)
    bound = {"dest": "/d", "path": "{batch}/{key}/{index}.{ext}", "columns": seen.columns, "source": "m.csv"}
    record(intake, seen, NewBatch(name="nightly-1", **bound, reuse=Reuse.COPY), NOW, attachment=attachment)

    (told,) = ledger.schedules.of_batch("nightly-1")
    assert told.detail == {"images": 1, "estimate": seen.needed // 3, "reused": 2, "waiting": 0}
