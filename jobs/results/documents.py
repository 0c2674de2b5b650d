"""What the ledger tells, as documents for programs: the same fields in the commands' `--json` and in the API.

Every field, with its unit, stands in docs/reference/json.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobs.formatting import usd, utc
from jobs.policy.copy_headroom import Backlog, least_slack, pace
from jobs.results.completion import RunState, rows_for_you
from jobs.results.progress import images_per_second, images_to_come, resting, seconds_left, state_of_batch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobs.ledger import Ledger
    from jobs.ledger.accounts.values import Account, DayLimit
    from jobs.ledger.accounts.worker_values import DestinationTrouble, EmergencyStop
    from jobs.ledger.batches.values import UnknownAttempt
    from jobs.ledger.claims.values import Failing
    from jobs.ledger.reports.values import BatchSchedule, Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchFigures:
    """A batch, and what around it tells when it will be done."""

    progress: Progress
    accounts: Sequence[Account]
    at_risk: tuple[int, int]  # images, micro-dollars
    daily_budgets: Sequence[DayLimit]
    backlog: Backlog | None  # of its destination
    now: float

    @property
    def standing(self) -> RunState:
        """The same, as a run judges it."""
        return RunState(progress=self.progress, accounts=self.accounts, now=self.now)

    @property
    def paused(self) -> list[Account]:
        """The accounts that take nothing now, and that rows of this batch wait for."""
        return resting(self.progress, self.accounts, self.now)


def read_figures(ledger: Ledger, progress: Progress, now: float) -> BatchFigures:
    """What the ledger says beside the progress that was read. `now`: the database's clock, seconds since 1970."""
    return BatchFigures(
        progress=progress,
        accounts=ledger.accounts.all(),
        at_risk=ledger.reports.at_risk(progress.batch.name),
        daily_budgets=ledger.accounts.daily_budgets(now),
        backlog=ledger.destinations.backlogs(now).get(progress.batch.dest),
        now=now,
    )


def progress_document(figures: BatchFigures) -> dict[str, object]:
    """How far a batch is. What the clock moves (pace, time left) is of `figures.now`."""
    progress, batch = figures.progress, figures.progress.batch
    return {
        "batch": batch.name,
        "state": state_of_batch(progress),
        "state_reason": batch.reason,
        "dest": batch.dest,
        "source": batch.source,
        "created_at": utc(batch.created_at),
        "rows": {state.value: number for state, number in progress.jobs.items()},
        "rows_need_you": rows_for_you(figures.standing),
        "images": {
            "total": progress.images_total,
            "stored": progress.images_stored,
            "waiting": progress.images_generated,
            "in_flight": progress.images_in_flight,
            "unknown": progress.images_unknown,
            "lost": progress.images_lost,
            "stuck": progress.images_stuck,
            "aside": progress.images_aside,
            "wrong_pixels": progress.wrong_pixels,
        },
        "bytes_stored": progress.bytes_stored,
        "taken_out": {"rows": progress.rows_out, "images": progress.images_out},
        "usd": {
            "budget": usd(batch.budget),
            "charged": usd(batch.charged),
            "in_flight": usd(progress.in_flight_money),
            "unknown": usd(progress.unknown_money),
            "stuck": usd(progress.stuck_money),
            "lost_or_given_up": usd(progress.lost_money),
            "rest_at_most": usd(progress.remaining_money),
        },
        "has_adopted": progress.has_adopted,
        "at_risk": risk_document(figures.at_risk),
        "errors": dict(progress.errors),
        "copy_errors": dict(progress.copy_errors),
        "copy_messages": dict(progress.copy_words),
        "stuck": [
            {"key": each.key, "index": each.slot, "code": each.code, "message": each.message, "usd": usd(each.money)}
            for each in progress.stuck
        ],
        "stopped": stop_document(progress.stop) if progress.stop else None,
        "ledger_problem": progress.unwritable,
        "submits_wait": [trouble_document(trouble) for trouble in progress.troubles],
        "nothing_stored": [failing_document(failing) for failing in progress.failing],
        "paused_accounts": [account.name for account in figures.paused],
        "daily_budgets": [day_document(limit) for limit in figures.daily_budgets],
        "schedule": _schedule_document(progress.schedule) if progress.schedule else None,
        "first_link_dies_at": None if progress.least_expiry is None else utc(progress.least_expiry),
        **_time_document(figures),
    }


def risk_document(risk: tuple[int, int]) -> dict[str, object]:
    """What would be paid for nothing if everything died now."""
    return {"images": risk[0], "usd": usd(risk[1])}


def day_document(limit: DayLimit) -> dict[str, object]:
    """A daily budget, and how far it is used."""
    return {
        "account": limit.account,
        "budget_usd": usd(limit.budget),
        "spent_usd": usd(limit.spent),
        "again_at": utc(limit.again_at),
    }


def failing_document(failing: Failing) -> dict[str, object]:
    """What cannot be stored."""
    return {
        "account": failing.account,
        "provider": failing.provider,
        "provider_model": failing.provider_model,
        "dest": failing.dest,
        "images": failing.images,
        "usd": usd(failing.money),
        "since": utc(failing.since),
        "code": failing.code,
        "message": failing.message,
        "batch": failing.batch,
        "next_try_at": None if failing.next_try_at is None else utc(failing.next_try_at),
    }


def stop_document(stop: EmergencyStop) -> dict[str, object]:
    """The emergency stop."""
    return {"since": utc(stop.since), "by": stop.by}


def _schedule_document(schedule: BatchSchedule) -> dict[str, object]:
    month, goes_on_at = schedule.month, schedule.goes_on_at
    return {
        "name": schedule.name,
        "monthly_budget_usd": None if month is None else usd(month.budget),
        "spent_this_month_usd": None if month is None else usd(month.spent),
        "next_month_at": None if month is None else utc(month.again_at),
        "month_allows_next_row": schedule.month_allows,
        "goes_on_at": None if goes_on_at is None else utc(goes_on_at),
    }


def trouble_document(trouble: DestinationTrouble) -> dict[str, object]:
    """Why no submits go out for a destination."""
    return {
        "dest": trouble.dest,
        "since": utc(trouble.since),
        "kind": trouble.kind.value,
        "code": trouble.code,
        "message": trouble.message,
        "said_by": trouble.said_by,
    }


def _time_document(figures: BatchFigures) -> dict[str, float | None]:
    progress, backlog, now = figures.progress, figures.backlog, figures.now
    images_a_second = images_per_second(progress, now) if images_to_come(progress) else None
    copies_a_second = pace(backlog, 0.0) if backlog else None
    return {
        "images_a_minute": images_a_second and images_a_second * 60,
        "seconds_left": seconds_left(progress, figures.accounts, now) if images_a_second else None,
        "copies_a_second": copies_a_second,
        "least_slack_seconds": least_slack(backlog, copies_a_second, now) if backlog and copies_a_second else None,
    }


def unknown_document(attempts: Sequence[UnknownAttempt]) -> dict[str, object]:
    """Attempts whose outcome nobody can know, and the money at risk."""
    return {
        "at_most_usd": usd(money_of(attempts)),
        "unknown": [
            {
                "batch": attempt.batch,
                "key": attempt.key,
                "account": attempt.account,
                "provider": attempt.provider,
                "provider_model": attempt.provider_model,
                "images": list(attempt.slots),
                "at_most_usd": usd(attempt.money) if attempt.price_known else None,
                "sent_at": utc(attempt.sent_at),
                "code": attempt.code,
                "message": attempt.message,
            }
            for attempt in attempts
        ],
    }


def money_of(attempts: Sequence[UnknownAttempt]) -> int:
    """Micro-dollars that they may have cost, as far as prices are known."""
    return sum(attempt.money for attempt in attempts)
