"""What holds a batch up, in sentences that every screen shares."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from jobs.formatting import count, day_and_minute, day_and_time, here, listed, money, time_of_day
from jobs.states import JobState, TroubleKind

if TYPE_CHECKING:
    from jobs.ledger.accounts.values import DayLimit
    from jobs.ledger.accounts.worker_values import DestinationTrouble, EmergencyStop
    from jobs.ledger.claims.values import Failing
    from jobs.ledger.reports.values import Progress


#: Where the stand-in works, said once on each screen.
STAND_IN = "SANDBOX: stand-in pictures and made-up prices; nothing is bought"


def out_of_manifest(progress: Progress) -> str:
    """Rows whose images are there, and which the newest manifest does not list any more."""
    number = f"{progress.rows_out:,} of these rows {'is' if progress.rows_out == 1 else 'are'}"
    return f"{number} no longer in the manifest"


def trouble_line(trouble: DestinationTrouble) -> str:
    """Why nothing new is sent for a destination, since when, and who says so."""
    what = "refuses writes" if trouble.kind is TroubleKind.REFUSES else "is copied to too slowly"
    since = time_of_day(trouble.since)
    return f"{trouble.dest} {what} since {since} ({trouble.code}: {trouble.message}; said by {trouble.said_by})"


def failing_line(failing: Failing) -> str:
    """What cannot be stored, since when and why: whose images, how many, what they cost."""
    whose = f"account {failing.account} ({failing.provider})" if failing.account else ""
    model = f"{failing.provider_model}" if failing.provider_model else ""
    where = f"to {failing.dest}" if failing.dest else ""
    which = " ".join(part for part in (whose, model, where) if part)
    cost = money(failing.money) if failing.money else "price not known"
    paid = f"{count(failing.images, 'paid image')} ({cost})"
    since = time_of_day(failing.since)
    return f"nothing of {which} can be stored since {since}: {paid} failed in a row ({failing.code}: {failing.message})"


def next_try_line(failing: Failing) -> str:
    """What goes on by itself where nothing can be stored: one paid submit, now and then."""
    at = "at once"
    if failing.next_try_at is not None:
        at = f"from {day_and_time(failing.next_try_at)}{here(failing.next_try_at)} on"
    return f"its submits wait, but for one that tries it {at}; they go on by themselves once an image is stored"


def not_copied(progress: Progress) -> str:
    """Paid images whose copies failed and are tried on, by code, with what one of the most common was told."""
    errors = progress.copy_errors
    words = progress.copy_words.get(max(errors, key=errors.__getitem__, default=""), "")
    return f"{listed(errors)}{f' ({one_line(words)})' if words else ''}"


def unwritable_line(why: str) -> str:
    """The ledger can be read and not written."""
    return (
        f"the ledger {why}. Nothing new is sent, polled or copied until it takes writes; answers to what was sent are "
        "kept, and recorded then"
    )


def stop_line(stop: EmergencyStop) -> str:
    """The emergency stop: since when, and by whom."""
    who = f" by {stop.by}" if stop.by else ""
    since = day_and_time(stop.since)
    return f"all submits are stopped since {since}{who}, no batch pays for anything new"


def day_budget_line(limit: DayLimit) -> str:
    """Which daily budget is used, and when it begins anew."""
    whose = f"of account {limit.account}" if limit.account else "of all accounts"
    if not limit.budget:
        return f"the daily budget {whose} is $0.00: nothing may be spent until daily_budget is raised or left out"
    spent = f"{money(limit.spent)} of {money(limit.budget)}"
    anew = f"{day_and_minute(limit.again_at)}{here(limit.again_at)}"
    return f"the daily budget {whose} is used, {spent}; it begins anew at {anew}"


def at_most(micros: int) -> str:
    """Money that is set aside, as "at most $1.20". Where tokens are billed, the estimate is less."""
    return f"at most {money(micros)}"


def row_words(progress: Progress) -> Iterator[tuple[JobState, int, str]]:
    """Rows by state, in the order of the states, in words that tell what they wait for."""
    for state in JobState:
        if number := progress.jobs.get(state, 0):
            yield state, number, _WAITING.get(state, state.value)


#: What `lf_status` calls ready and working, as people are told of it. What is done for rows under way: `under_way`.
_WAITING = {JobState.READY: "waiting for their turn", JobState.WORKING: "under way"}


def under_way(progress: Progress) -> str:
    """What is being done for rows under way: images that the provider makes, and images that are copied."""
    parts = [f"{progress.images_in_flight:,} being made"] * bool(progress.images_in_flight)
    parts += [f"{progress.images_generated:,} being copied"] * bool(progress.images_generated)
    return ", ".join(parts)


def one_line(text: str) -> str:
    """All of the text, in one line: for what may end with the command, or the words, that help."""
    return " ".join(text.split())
