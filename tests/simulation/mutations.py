"""The program with one of its safeguards taken out, to see that the simulation would notice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, select

from jobs.facts import AttemptFact, Fact, SubmitRefused, SubmitUnclear
from jobs.ledger.accounts.destinations import HELD_UP
from jobs.ledger.accounts.emergency_stop import NOT_STOPPED
from jobs.ledger.claims import fair_share, submits
from jobs.ledger.claims.values import Claim
from jobs.ledger.claims.verbs import ClaimVerbs
from jobs.ledger.database.schema import attempts, batches, images, jobs
from jobs.ledger.database.schema import shares as share_table
from jobs.ledger.database.statements import among
from jobs.ledger.facts.verbs import FactVerbs, RecordEffects
from jobs.policy import doubts
from jobs.states import BatchState, ImageState
from providers.types import Kind
from worker.stages import submit

if TYPE_CHECKING:
    import pytest


def without_intent(patch: pytest.MonkeyPatch) -> None:
    """Sends first: the claim is made, sent, and only then committed."""

    class Undone(Exception):
        def __init__(self, claim: Claim) -> None:
            super().__init__()
            self.claim = claim

    def claim_submits(tx: Any, name: str, now: float, terms: submits.Terms) -> Claim:
        raise Undone(decide(tx, name, now, terms))

    def claimed(self: ClaimVerbs, account: str, now: float, **terms: Any) -> Claim:
        try:
            return ask(self, account, now, **terms)
        except Undone as undone:
            return undone.claim

    decide, ask = submits.claim_submits, ClaimVerbs.submits
    patch.setattr(submits, "claim_submits", claim_submits)
    patch.setattr(ClaimVerbs, "submits", claimed)


def without_facts_above_leases(patch: pytest.MonkeyPatch) -> None:
    """A fact that comes when the lease is over is nobody's any more."""

    def recorded(self: FactVerbs, facts: Sequence[Fact]) -> RecordEffects:
        mine = [fact for fact in facts if isinstance(fact, AttemptFact)]
        with self._database.writing() as tx:
            wanted = select(attempts.c.id).where(
                attempts.c.id.in_([fact.attempt_id for fact in mine]),
                attempts.c.task_id.is_(None),
                attempts.c.lease_until <= self._database._world.true_now(),
            )
            late = set(tx.execute(wanted).scalars())
        return record(self, [fact for fact in facts if getattr(fact, "attempt_id", None) not in late])

    record = FactVerbs.record
    patch.setattr(FactVerbs, "record", recorded)


def without_lease_check(patch: pytest.MonkeyPatch) -> None:
    """Who holds an intent sends it, whatever the time."""
    patch.setattr(submit, "_time_left", lambda _services, _attempt: 1e9)


def without_reservation(patch: pytest.MonkeyPatch) -> None:
    """A budget counts what was charged, and not what is on its way."""
    patch.setattr(submits, "_left", lambda batch: None if batch.budget is None else batch.budget - batch.charged)


def without_the_slots_mark(patch: pytest.MonkeyPatch) -> None:
    """A claim does not look whether a slot has an attempt already."""
    patch.setattr(submits, "_FREE", _any_missing())


def _any_missing() -> Any:
    return (
        select(images.c.job_id, images.c.revision, images.c.slot)
        .where(
            among(images.c.job_id, "of_jobs"),
            images.c.state == ImageState.MISSING,
            images.c.surplus.is_(False),
        )
        .order_by(images.c.job_id, images.c.slot)
    )


def with_unclear_taken_for_refused(patch: pytest.MonkeyPatch) -> None:
    """An answer that nobody can read counts as a refusal, so the row goes again."""

    def silent(services: Any, intent: Any, exchange: Any) -> Fact:
        return _refused(say_silent(services, intent, exchange))

    def no_task(intent: Any, outcome: Any, now: float) -> Fact:
        return _refused(say_no_task(intent, outcome, now))

    say_silent, say_no_task = submit._silent, submit._no_task
    patch.setattr(submit, "_silent", silent)
    patch.setattr(submit, "_no_task", no_task)


def _refused(fact: Fact) -> Fact:
    if not isinstance(fact, SubmitUnclear):
        return fact
    told = {"attempt_id": fact.attempt_id, "at": fact.at, "code": fact.code, "message": fact.message}
    return SubmitRefused(kind=Kind.TRANSIENT, **told)


def without_rests(patch: pytest.MonkeyPatch) -> None:
    """An account that was told to wait is asked all the same."""
    patch.setattr(submits, "_rest", lambda _account, _now, _provider: None)


def without_places(patch: pytest.MonkeyPatch) -> None:
    """However many are in flight, more are sent."""
    patch.setattr(submits, "most_in_flight", lambda _account: 1_000)


def without_turns(patch: pytest.MonkeyPatch) -> None:
    """The oldest batch takes all it can."""
    patch.setattr(fair_share, "divide", lambda open_shares, most: [(open_shares[0], most)])


def without_heed_to_destinations(patch: pytest.MonkeyPatch) -> None:
    """Images are paid for, wherever they go."""
    _serve_all(patch, NOT_STOPPED)


def without_heed_to_the_stop(patch: pytest.MonkeyPatch) -> None:
    """Submits go on while all is stopped."""
    _serve_all(patch, batches.c.dest.not_in(HELD_UP))


def _serve_all(patch: pytest.MonkeyPatch, but_for: Any) -> None:
    """Every active batch may spend, `but_for` what this condition leaves out."""
    at_account = (share_table.c.batch_id == batches.c.id) & (share_table.c.account_id == bindparam("of_account"))
    work = select(jobs.c.id).where(*fair_share.IS_READY, jobs.c.batch_id == batches.c.id).exists()
    everybody = (
        select(batches, share_table.c.tag)
        .select_from(batches.outerjoin(share_table, at_account))
        .where(batches.c.state == BatchState.ACTIVE, but_for, work)
        .order_by(batches.c.id)
    )
    patch.setattr(fair_share, "_WITH_WORK", everybody)


def without_a_second_question(patch: pytest.MonkeyPatch) -> None:
    """Whatever a task is once said to have ended in is believed."""
    patch.setattr(doubts, "is_believed", lambda *_, **__: True)


#: What is taken out, and the rule whose breach must be seen (any of them).
MUTATIONS: dict[Callable[[pytest.MonkeyPatch], None], tuple[str, ...]] = {
    without_intent: ("intent is on record before money",),
    without_facts_above_leases: ("an answer that arrived is on record", "every job ends or waits for a named reason"),
    without_lease_check: ("nothing is sent when its lease is over", "intent is on record before money"),
    without_reservation: ("no budget is crossed", "no budget is crossed at the providers"),
    without_the_slots_mark: ("a slot has at most one open or unknown attempt", "nothing is paid twice unasked"),
    without_rests: ("an account that rests is left alone",),
    without_places: ("no more is claimed than may be in flight", "places in flight are kept"),
    without_turns: ("batches share an account by weight",),
    without_heed_to_the_stop: ("nothing is claimed while all is stopped",),
    without_heed_to_destinations: ("nothing is paid for a destination in trouble",),
    without_a_second_question: ("charged is stored, waiting, lost, surplus, undelivered or at risk",),
    with_unclear_taken_for_refused: ("charged is stored, waiting, lost, surplus, undelivered or at risk",),
}
