"""A batch most of whose rows fail alike pauses itself, on a cluster too."""

from __future__ import annotations

from jobs.facts import SubmitRefused
from jobs.states import BatchState
from providers.types import Kind
from tests.support import stocked_ledger
from tests.support.stocked_ledger import NOW


def fail(ledger, count, code="invalid_parameters"):
    intents = []
    while len(intents) < count:
        intents += ledger.claims.submits("main", NOW, lease=90, at_most=count - len(intents)).intents
    told = {"at": NOW, "kind": Kind.PERMANENT, "code": code, "message": "no"}
    ledger.facts.record([SubmitRefused(attempt_id=intent.attempt_id, **told) for intent in intents])


def test_fifty_rows_that_failed_alike_pause_a_batch_and_say_why(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(200))
    fail(ledger, 49)
    assert ledger.batches.pause_hopeless() == []

    fail(ledger, 1)

    assert ledger.batches.pause_hopeless() == [("spring", "invalid_parameters")]
    batch = ledger.batches.find("spring")
    assert (batch.state, batch.reason) == (
        BatchState.PAUSED,
        "over half of the rows that ended failed with invalid_parameters",
    )


def test_what_a_person_has_seen_does_not_pause_it_again(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(200))
    fail(ledger, 60)
    ledger.batches.pause_hopeless()
    ledger.batches.resume("spring", NOW)

    assert ledger.batches.pause_hopeless() == []
    fail(ledger, 50)
    assert ledger.batches.pause_hopeless() == [("spring", "invalid_parameters")]


def test_failures_of_many_kinds_pause_nothing(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(200))
    for code in ("moderation", "invalid_parameters", "model_not_found"):
        fail(ledger, 20, code)

    assert ledger.batches.pause_hopeless() == []
