"""Which paid images are told of because their links are about to die."""

from __future__ import annotations

from jobs.facts import SubmitAccepted, TaskSucceeded
from tests.support import stocked_ledger
from tests.support.stocked_ledger import NOW, PRICE, made

HOUR, QUARTER = 3_600.0, 900.0
LOOK = {"within": 12 * HOUR, "waited": QUARTER}


def generate(ledger, expires, **batch):
    """A row whose image can be had since NOW, until `expires`."""
    stocked_ledger.stock(ledger, stocked_ledger.rows(1), **batch)
    (intent,) = ledger.claims.submits("main", NOW, lease=60.0, at_most=1, horizon=5.0).intents
    image = made(f"https://cdn.example/{intent.attempt_id}.png", expires_at=expires)
    accepted = {"task_id": f"t{intent.attempt_id}", "poll_path": None, "next_poll_at": NOW}
    ledger.facts.record([SubmitAccepted(attempt_id=intent.attempt_id, at=NOW, **accepted)])
    ledger.facts.record([TaskSucceeded(attempt_id=intent.attempt_id, at=NOW, images=(image,))])


def test_an_image_that_waits_for_its_copy_for_a_quarter_of_an_hour_is_told_of_with_its_batch(ledger):
    generate(ledger, NOW + HOUR, dest="/tmp/dest", notify=("anna",))

    assert ledger.reports.dying_links(NOW + QUARTER - 1, **LOOK) == [], "a copy may take a while"
    (one,) = ledger.reports.dying_links(NOW + QUARTER, **LOOK)
    assert (one.batch, one.dest, one.images, one.money) == ("spring", "/tmp/dest", 1, PRICE)
    assert (one.first_dies_at, one.notify) == (NOW + HOUR, ("anna",))
    assert ledger.reports.dying_links(NOW + HOUR, **LOOK) == [], "it is dead, and told of as lost"


def test_a_link_that_lives_for_a_day_is_told_of_when_twelve_hours_are_left(ledger):
    generate(ledger, NOW + 24 * HOUR)

    assert ledger.reports.dying_links(NOW + 12 * HOUR - 1, **LOOK) == []
    assert len(ledger.reports.dying_links(NOW + 12 * HOUR, **LOOK)) == 1


def test_each_batch_is_told_of_by_itself(ledger):
    generate(ledger, NOW + HOUR)
    generate(ledger, NOW + 2 * HOUR, name="autumn")

    found = ledger.reports.dying_links(NOW + QUARTER, **LOOK)
    assert [(one.batch, one.images) for one in found] == [("spring", 1), ("autumn", 1)]
