"""A batch most of whose rows fail alike pauses itself, by one rule for a run and for a cluster."""

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


def judged(ledger):
    """The code a cluster's sweep pauses the batch for; a run that looks at its progress sees the same."""
    seen = ledger.reports.progress("spring").fails_alike
    paused = ledger.batches.pause_failing()
    assert paused == ([("spring", seen)] if seen else [])
    return seen


def test_fifty_rows_that_failed_alike_pause_a_batch_and_say_why(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(200))
    fail(ledger, 49)
    assert judged(ledger) is None

    fail(ledger, 1)

    assert judged(ledger) == "invalid_parameters"
    batch = ledger.batches.find("spring")
    assert (batch.state, batch.reason) == (
        BatchState.PAUSED,
        "over half of the rows that ended failed with invalid_parameters",
    )


def test_what_a_person_has_seen_does_not_pause_it_again(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(200))
    fail(ledger, 60)
    ledger.batches.pause_failing()
    ledger.batches.resume("spring", NOW)

    assert judged(ledger) is None
    fail(ledger, 50)
    assert judged(ledger) == "invalid_parameters"


def test_failures_of_many_kinds_pause_nothing(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(200))
    for code in ("moderation", "invalid_parameters", "model_not_found"):
        fail(ledger, 20, code)

    assert judged(ledger) is None


def test_rows_that_were_tried_again_and_fail_again_pause_it_again(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(100))
    fail(ledger, 60)
    assert judged(ledger) == "invalid_parameters"
    ledger.batches.resume("spring", NOW)
    assert ledger.batches.retry("spring", NOW) == 60

    fail(ledger, 60)

    assert judged(ledger) == "invalid_parameters"


def test_who_records_the_batch_again_has_seen_what_failed_before(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(200))
    fail(ledger, 45)
    ledger.batches.record_manifest(stocked_ledger.new_batch(), stocked_ledger.rows(200), now=NOW)

    fail(ledger, 49)
    assert judged(ledger) is None
    fail(ledger, 1)
    assert judged(ledger) == "invalid_parameters"


def test_a_run_judges_its_own_batch_alone(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(200))
    fail(ledger, 60)

    assert ledger.batches.pause_failing("another") == []
    assert ledger.batches.find("spring").state is BatchState.ACTIVE
