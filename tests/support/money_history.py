"""A ledger that has lived through everything money can meet."""

from __future__ import annotations

from jobs.facts import (
    ImageChecked,
    ImageLost,
    ImageStored,
    SubmitAccepted,
    SubmitRefused,
    SubmitUnclear,
    TaskFailed,
    TaskSucceeded,
)
from jobs.ledger import Ledger
from providers.types import Kind
from tests.support import stocked_ledger
from tests.support.stocked_ledger import NOW


def accepted(intent):
    task = f"task-{intent.key}"
    return SubmitAccepted(attempt_id=intent.attempt_id, at=NOW, task_id=task, poll_path=None, next_poll_at=NOW)


def succeeded(intent, count=1, at=NOW):
    return TaskSucceeded(attempt_id=intent.attempt_id, at=at, images=tuple(stocked_ledger.made() for _ in range(count)))


def failed(intent, **more):
    told = {"kind": Kind.PERMANENT, "code": "no_images", "message": "no", **more}
    return TaskFailed(attempt_id=intent.attempt_id, at=NOW, **told)


def unclear(intent):
    return SubmitUnclear(attempt_id=intent.attempt_id, at=NOW, code="connection_lost", message="cut off")


def end_copies(ledger, count, *, stored):
    due, _ = ledger.claims.copies(NOW, holder="me", lease=60, at_most=count)
    assert len(due) == count
    for image in due:
        size = {"bytes": 9, "width": 1, "height": 1, "format": "png"}
        checked = ImageChecked(image_id=image.image_id, object_path="a/0.png", sha256="ab", **size)
        end = ImageStored(image_id=image.image_id, at=NOW)
        gone = ImageLost(image_id=image.image_id, at=NOW, code="link_dead", message="404")
        ledger.facts.record([checked, end] if stored else [gone])


def live(ledger: Ledger) -> None:
    """Sixteen rows that met everything: one thing each, in the order of their keys."""
    unpriced = [stocked_ledger.priced(stocked_ledger.row(15), None)]
    stocked_ledger.stock(ledger, [*stocked_ledger.rows(14), stocked_ledger.row(14, n=4), *unpriced])
    one = ledger.claims.submits("main", NOW, lease=90).intents
    assert len(one) == 16
    ledger.facts.record([accepted(one[0]), succeeded(one[0])])
    end_copies(ledger, 1, stored=True)
    ledger.facts.record([accepted(one[1]), succeeded(one[1])])
    end_copies(ledger, 1, stored=False)
    ledger.facts.record([accepted(intent) for intent in one[2:9]])
    ledger.facts.record([succeeded(one[2]), succeeded(one[3], 3)])  # waiting; with two more than were asked
    ledger.facts.record([failed(one[4]), failed(one[5], charged=True)])
    ledger.facts.record([failed(one[6], code="task_forgotten", forgotten=True)])
    ledger.facts.record([unclear(intent) for intent in one[9:12]])
    ledger.unknowns.resolve([one[9].attempt_id], "give-up", NOW)
    ledger.unknowns.resolve([one[10].attempt_id], "pay-again", NOW)
    ledger.facts.record([succeeded(one[10])])  # paid after all: surplus
    refusal = {"kind": Kind.PERMANENT, "code": "invalid_parameters", "message": "no"}
    ledger.facts.record([SubmitRefused(attempt_id=one[12].attempt_id, at=NOW, **refusal)])
    ledger.facts.record([accepted(one[14]), succeeded(one[14], 3), succeeded(one[15])])
