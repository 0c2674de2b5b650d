"""Budgets in words: what a used one holds up, the commands that raise it, and what of an estimate is no cost. Pure."""

from __future__ import annotations

from jobs.command_lines import command
from jobs.formatting import count, day_and_minute, dollars, money, up_to_cents
from jobs.ledger.reports.values import Progress
from jobs.ledger.schedules.values import Bought, NewSchedule, Schedule


def month_words(progress: Progress) -> str:
    """What the month of its schedule has cost, of what budget, and when the next one begins; "": it has no budget."""
    if progress.schedule is None or progress.schedule.month is None:
        return ""
    month = progress.schedule.month
    return (
        f"{money(month.spent)} of the monthly budget of {money(month.budget)} of schedule {progress.schedule.name} is "
        f"spent or reserved; the next month begins at {day_and_minute(month.again_at)}"
    )


def goes_on_words(progress: Progress) -> str:
    """When a time of its schedule goes on with the rows that a budget has left out; "": none does."""
    schedule = progress.schedule
    if schedule is None or schedule.goes_on_at is None:
        return ""
    return f"schedule {schedule.name} goes on with the rest at {day_and_minute(schedule.goes_on_at)}"


def goes_on_with_it(progress: Progress) -> str:
    """The command that lets the next time of its schedule come now, within its budgets; "": it is of none."""
    if progress.schedule is None:
        return ""
    now = command("schedule", "run-now", progress.schedule.name, sandbox=progress.batch.sandbox)
    return f". To let it come now:  {now}"


def bought_words(bought: Bought) -> str:
    """What a time of a schedule has made, and what that has cost; more where something is not settled."""
    open_ = f", {money(bought.reserved)} set aside for what is in flight or unknown" if bought.reserved else ""
    if not (bought.images or bought.charged or open_):
        return NOTHING_BOUGHT
    return f"{count(bought.images or 0, 'image')} made for {money(bought.charged)}{open_}"


#: What is said of a time that could pay for nothing.
NOTHING_BOUGHT = "nothing was bought"


def helped_words(rows: int | None) -> str:
    """That rows which needed a person when a time ended do so no more. `rows`: as far as it is on record."""
    return f"{count(rows, 'row')} made after its end" if rows else "the rows that failed were made after its end"


def of_budget_words(progress: Progress) -> str:
    """The budget that its money is compared with, after "$1.00"; "": none. A schedule's budgets are its times'."""
    budget = progress.batch.budget
    return f" of {money(budget)}" if budget is not None and progress.schedule is None else ""


def budget_for_all(progress: Progress) -> str:
    """The budget in dollars, as an option has it, that a batch needs for all that is left at today's prices."""
    batch = progress.batch
    return dollars(up_to_cents(batch.charged + batch.reserved + progress.remaining_money))


def raise_budget(progress: Progress) -> str:
    """The command that gives a batch what all that is left needs at today's prices."""
    batch = progress.batch
    return command("resume", batch.name, "--budget", budget_for_all(progress), sandbox=batch.sandbox)


def raise_month(progress: Progress) -> list[str]:
    """The commands that give the month of its schedule what all of its batches need, and this one, where it needs it.

    The month is never lowered. None where the schedule has no such budget.
    """
    schedule = progress.schedule
    if schedule is None or schedule.month is None:
        return []
    waiting = max(schedule.waiting_money, progress.remaining_money)
    needed = dollars(max(schedule.month.budget, up_to_cents(schedule.month.spent + waiting)))
    edit = command("schedule", "edit", schedule.name, "--monthly-budget", needed, sandbox=progress.batch.sandbox)
    return [edit, *([raise_budget(progress)] if progress.budget_allows is False else [])]


#: What is said before the command that `allowed_by` gives.
TO_ALLOW = " To allow it, if the manifest is as you want it:"


def allowed_by(schedule: NewSchedule, needed: int, spent: int, *, sandbox: bool) -> str:
    """The command that lets a time cost as much; of one that is not on record as it is asked for, the options.

    `needed`, and `spent` of this month: micro-dollars.
    """
    words: list[str] = []
    if schedule.budget is not None and schedule.budget < needed:
        words += ["--budget", dollars(up_to_cents(needed))]
    if schedule.monthly_budget is not None and schedule.monthly_budget < spent + needed:
        words += ["--monthly-budget", dollars(up_to_cents(spent + needed))]
    if not isinstance(schedule, Schedule):
        return f" All of it needs  {' '.join(words)}" if words else ""
    return f"{TO_ALLOW}  {command('schedule', 'edit', schedule.name, *words, sandbox=sandbox)}"


def held_words(margin: int) -> str:
    """What of an estimate is no cost. `margin`: micro-dollars, not 0."""
    return f"{money(margin)} of it only set aside while the last image is made"
