"""How fast a batch goes and how long it has left. Pure arithmetic on what the ledger counted."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from jobs.formatting import money
from jobs.states import GOING_ON, NEEDS_A_PERSON, BatchState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobs.ledger.accounts.values import Account
    from jobs.ledger.batches.values import Batch
    from jobs.ledger.reports.values import Progress

#: Seconds without a stored image after which there is no pace to speak of.
STALE = 300.0
#: The last images on their way have refuted a time left that was this many times shorter than their delay so far, and
#: seconds of delay in which nothing is refuted.
REFUTED, PATIENT = 3.0, 10.0


def spent(progress: Progress) -> str:
    """What is counted as paid. For images of a lost ledger that were adopted it is not on record, and not $0.00."""
    charged = progress.batch.charged
    return money(charged) if charged or not progress.has_adopted else "not on record"


def counted_by(progress: Progress) -> str:
    """What its money is counted by, and what is not in it."""
    prices = prices_of(progress.batch)
    return f"{prices}, without the adopted images" if progress.has_adopted else prices


def prices_of(batch: Batch) -> str:
    """What its money is counted by."""
    return "made-up prices" if batch.sandbox else "list prices"


def rows_going_on(progress: Progress) -> int:
    """Rows that go on by themselves."""
    return sum(progress.jobs.get(state, 0) for state in GOING_ON)


def rows_in_need(progress: Progress) -> int:
    """Rows that a person should look at."""
    return sum(progress.jobs.get(state, 0) for state in NEEDS_A_PERSON)


def state_of_batch(progress: Progress) -> str:
    """The batch's state as a person would say it: active, finished, archived, paused, cancelled.

    One that was paused and has nothing left to send is finished: there is nothing to resume.
    """
    if progress.batch.archive is not None:
        return "archived"
    if progress.batch.state is BatchState.CANCELLED:
        return progress.batch.state.value
    return progress.batch.state.value if rows_going_on(progress) else "finished"


def is_paused(progress: Progress) -> bool:
    """Whether rows wait because the batch is paused."""
    return progress.batch.state is BatchState.PAUSED and rows_going_on(progress) > 0


def images_per_second(progress: Progress, now: float, since: float = 0.0) -> float | None:
    """The pace of the last images stored after `since`; None when there are too few, or the last is long ago."""
    stored = _stored_of_late(progress, now, since)
    return len(stored) / max(now - stored[0], 0.5) if stored else None


def _stored_of_late(progress: Progress, now: float, since: float) -> list[float]:
    stored = sorted(at for at in progress.stored_at if at >= since)
    return [] if len(stored) < 3 or now - stored[-1] > STALE else stored  # noqa: PLR2004  two images are no pace


def images_to_come(progress: Progress) -> int:
    """Images that will still be stored if all goes well: those on their way, and those of rows not yet sent."""
    return progress.images_ready + progress.images_in_flight + progress.images_generated


def images_on_their_way(progress: Progress) -> int:
    """Images that are paid or being made, and not stored."""
    return progress.images_in_flight + progress.images_generated


def images_failing(progress: Progress) -> int:
    """Paid images that are not copied yet, and failed to be."""
    return sum(progress.copy_errors.values())


def seconds_left(progress: Progress, accounts: Sequence[Account], now: float, since: float = 0.0) -> float | None:
    """Until the last image is stored; None where there is no pace, or nothing is on its way.

    The pace ends with the newest image that was stored, so that the figure does not grow while none is. Rests of
    accounts, and of rows, come on top. What waits for a person is not counted: a batch that is paused, or stopped
    with all others, sends no more. Nor is there a time where all that is left fails to be copied, or nothing can be
    stored; or where only images on their way are left, and these take far longer than the pace said.
    """
    stored = _stored_of_late(progress, now, since)
    on_their_way = images_on_their_way(progress) - images_failing(progress)
    if not stored or progress.failing or progress.unwritable or on_their_way <= 0:
        return None
    pace = len(stored) / max(stored[-1] - stored[0], 0.5)
    if not progress.images_ready and now - stored[-1] > max(PATIENT, REFUTED * on_their_way / pace):
        return None
    wait = _wait_of_rows(progress, accounts, now)
    if progress.batch.state is not BatchState.ACTIVE or progress.stop is not None or math.isinf(wait):
        return on_their_way / pace
    return wait + images_to_come(progress) / pace


def _wait_of_rows(progress: Progress, accounts: Sequence[Account], now: float) -> float:
    """Seconds until a row may be sent again: until the first account is awake that any waits for, and a row is due."""
    if not progress.images_ready:
        return 0.0
    due = max(0.0, progress.next_at - now) if progress.next_at is not None else 0.0
    rests = [
        (account.cooldown_until(now) or now) - now
        for account in accounts
        if progress.waits_at is None or account.provider in progress.waits_at
    ]
    return max(due, min(rests, default=0.0))


def resting(progress: Progress, accounts: Sequence[Account], now: float) -> list[Account]:
    """The accounts that take nothing now, and that rows of this batch wait for."""
    return [
        account
        for account in accounts
        if account.cooldown_until(now) is not None
        and (progress.waits_at is None or account.provider in progress.waits_at)
    ]
