"""One time of a schedule: its manifest is read and its batch recorded, within what the schedule may spend.

Nobody is there to ask. What a person would have been asked was agreed to when the schedule was added; what goes beyond
that ends the time, with a reason that everybody sees.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from jobs.command_lines import command
from jobs.errors import BadInput, LightfastError, NeedsPerson
from jobs.formatting import count, day_and_minute, money, one_line, stamp, utc
from jobs.ledger import Ledger, is_away
from jobs.ledger.accounts.monthly_budgets import next_month
from jobs.ledger.batches.values import Batch
from jobs.ledger.schedules.values import (
    Attachment,
    Ended,
    Firing,
    InTheWayError,
    NewSchedule,
    NotOursError,
    Schedule,
)
from jobs.policy.cron import next_time
from jobs.policy.firing import LEFT_OUT, MADE, Into
from jobs.results.budgets import TO_ALLOW, allowed_by, held_words
from jobs.results.completion import Reason
from jobs.results.progress import rows_in_need
from jobs.settings.model import Settings
from jobs.states import GOING_ON, BatchState, FiringState
from worker.references import place_of
from worker.registration.destination import check_mark, probe
from worker.registration.manifest_sources import SourceState, UnchangedError
from worker.registration.options import BatchOptions
from worker.registration.preflight import Preflight, take
from worker.registration.register import at_most, record
from worker.runtime.telemetry import emit, is_telling
from worker.scheduling.following import ended_with
from worker.scheduling.telling import tell
from worker.services import Services

#: Tries of what may pass by itself, and seconds between two of them: a store or a server that is away for a while.
TRIES = 20
WAIT = 120.0
#: Seconds without a change after which a file counts as written whole, and until it is looked at again.
SETTLED = 5.0


class _StoppedError(Exception):
    """This process ends; another reads the manifest, from its beginning."""


class OverBudget(BadInput):
    """The one thing that is wrong with a time is what it would cost."""

    def __init__(self, problem: str, reason: Reason, plan: Mapping[str, Any]) -> None:
        super().__init__(problem)
        self.reason = reason
        self.plan = plan


class _LaterError(Exception):
    """It may pass by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """What a time may spend. Micro-dollars."""

    money: int  # what its estimate is compared with: no more than is left of the month
    cap: int  # what its batch may add: the month is kept by each claim, and may be raised or over meanwhile
    why: str  # in words that follow "and may spend"
    spent: int = 0  # of a monthly budget already
    is_of_month: bool = False  # whether that leaves less than the time's own budget


def read(services: Services, schedule: Schedule, firing: Firing, stopped: Callable[[], bool]) -> None:
    """Reads the time's manifest and records its batch; how it ends otherwise is on record. Blocks for as long.

    `stopped`: whether this process ends meanwhile.
    """
    try:
        _read(services, schedule, firing, stopped)
    except InTheWayError:
        _stand_back(services, firing)
    except UnchangedError:
        _end(services, firing, _nothing_new(services, schedule, firing))
    except (NotOursError, _StoppedError):
        return
    except OverBudget as above:
        _end(services, firing, replace(_failed(above.reason.value, str(above)), detail=above.plan))
    except BadInput as wrong:
        changed = services.settings.changed_files
        problems = [*wrong.problems, *([settings_words(changed)] if changed else [])]
        _end(services, firing, _failed("bad_input", "; ".join(problems)))
    except (LightfastError, _LaterError) as trouble:
        _try_later(services, schedule, firing, str(trouble))
    except OSError as trouble:  # a full disk, a folder that is away
        _try_later(services, schedule, firing, trouble.strerror or repr(trouble))
    except Exception as trouble:  # noqa: BLE001  whatever it is, the next time must not wait for this one for ever
        if is_away(trouble):  # if it still is, this process takes the time again when it is back
            _try_later(services, schedule, firing, "the ledger took nothing")
            return
        emit("schedule_trouble", level="error", schedule=schedule.name, problem=repr(trouble)[:500])
        _try_later(services, schedule, firing, f"a fault of ours: {type(trouble).__name__}")


def _read(services: Services, schedule: Schedule, firing: Firing, stopped: Callable[[], bool]) -> None:
    settings, ledger = services.settings, services.ledger
    if _stand_back(services, firing):
        return

    def go_on(_rows: int) -> None:
        if stopped():
            raise _StoppedError

    options = options_of(schedule, firing.at, by_hand=firing.by_hand)
    batch = ledger.batches.find(options.batch)
    seen, left = _may_be_skipped(services, schedule, batch), left_to(schedule, ledger, services.clock.now())
    looking = planned(options, settings, left, rows_read=go_on, known=ledger, seen=seen, keeps_rows=True)
    with looking as preflight:
        _demand_settled(preflight)
        demand(preflight, schedule, left)
        if options.partial and _buys_nothing(preflight) and _is_for_nothing(preflight, schedule):
            _end(services, firing, _bought_nothing(preflight, schedule, left, services.clock.now()))
            return
        store, _ = probe(preflight.dest)
        if preflight.batch is None:
            check_mark(store, preflight.name, ledger.ledger_id)
        if preflight.source.has_changed():
            raise _LaterError(f"{preflight.manifest.name} changed while it was read")
        still, now = at_most(preflight), services.clock.now()
        attachment = Attachment(
            firing_id=firing.id,
            holder=services.holder,
            detail=told(preflight, left, ledger.schedules.rows_before(schedule.id)),
            seen=preflight.source.state if schedule.into is Into.SAME else None,
            reused_images=preflight.seen.again.reused_images,
            reused_money=preflight.seen.again.reused_money,
        )
        capped = with_budget(preflight, left.cap)
        brought = record(capped, store, ledger, still=still, now=now, tell=go_on, attachment=attachment)
        if brought:
            emit("references_brought", files=brought, dest=f"{preflight.dest}/{place_of('')}")


def _stand_back(services: Services, firing: Firing) -> bool:
    """Whether it does not begin now, as an earlier time was begun again meanwhile."""
    decided = services.ledger.schedules.stand_back(firing.id, services.holder, services.clock.now())
    if decided is not None:
        tell(decided)
    return decided is not None


# -- what is asked -------------------------------------------------------------------------------------------------


def options_of(schedule: NewSchedule, at: float, *, by_hand: bool = False) -> BatchOptions:
    """What is asked of the batch of its time `at`, with the batch's name."""
    batch = schedule.name if schedule.into is Into.SAME else f"{schedule.name}-{stamp(at, seconds=by_hand)}"
    return replace(BatchOptions.from_json(schedule.options), batch=batch)


def _may_be_skipped(services: Services, schedule: Schedule, batch: Batch | None) -> Mapping[str, Any] | None:
    """How the manifest was, where nothing of its batch goes on: unchanged it need not be read again."""
    if schedule.into is not Into.SAME or batch is None or batch.state is not BatchState.ACTIVE:
        return None
    rows = services.ledger.reports.progress(batch.name).jobs
    return None if any(rows.get(state) for state in GOING_ON) else schedule.seen


def left_to(schedule: NewSchedule, ledger: Ledger | None, now: float) -> Left:
    """What a time of it may spend now. `ledger`: None where there is none yet."""
    cap = schedule.monthly_budget or 0 if schedule.budget is None else schedule.budget
    if schedule.monthly_budget is None:
        return Left(money=cap, cap=cap, why=f"{money(cap)} (--budget)")
    # One that is edited is on record under its name, with other figures.
    known = ledger.schedules.find(schedule.name) if ledger else None
    spent = ledger.schedules.spent_this_month(known.id, now) if ledger and known else 0
    month = max(0, schedule.monthly_budget - spent)
    if schedule.budget is not None and schedule.budget <= month:
        return Left(money=cap, cap=cap, why=f"{money(cap)} (--budget)", spent=spent)
    left = f"{money(month)}, which is left of this month's {money(schedule.monthly_budget)}"
    why = left if spent else f"{money(month)} (--monthly-budget)"
    return Left(money=month, cap=cap, why=why, spent=spent, is_of_month=True)


@contextlib.contextmanager
def planned(  # noqa: PLR0913  as `take` has
    options: BatchOptions,
    settings: Settings,
    left: Left,
    *,
    known: Ledger | None,
    rows_read: Callable[[int], None] | None = None,
    seen: SourceState | None = None,
    keeps_rows: bool = False,
) -> Iterator[Preflight]:
    """What a time comes to, with the budget that its estimate is compared with. `keeps_rows`: as `take` does.

    Raises:
        BadInput: Options that are wrong, or a manifest that cannot be read.
        UnchangedError: The manifest is as it was seen.
    """
    # The budget that --partial needs is known when the batch is.
    whole = replace(options, partial=False)
    taken = take(whole, settings, rows_read=rows_read, known=known, seen=seen, keeps_rows=keeps_rows)
    with taken as found:
        yield with_budget(replace(found, options=options), left.money)


def with_budget(preflight: Preflight, more: int) -> Preflight:
    """With a budget that lets its batch spend so many micro-dollars more than it has."""
    return replace(preflight, limits=replace(preflight.limits, budget=_of_its_batch(preflight.batch) + more))


def _of_its_batch(batch: Batch | None) -> int:
    """What its batch has spent or reserved, in all times."""
    return batch.charged + batch.reserved if batch else 0


def demand(preflight: Preflight, schedule: NewSchedule, left: Left) -> None:
    """Looks whether a time may be recorded.

    Raises:
        BadInput: As `run` would refuse, or without what was agreed to.
        OverBudget: The estimate is above what may be spent, and nothing else is wrong.
    """
    options, seen = preflight.options, preflight.seen
    if schedule.into is Into.SAME and preflight.is_cancelled:
        raise BadInput(_cancelled(preflight, schedule))
    # What it may spend is told in words of its own: a batch's budget counts the times before, too.
    boundless = replace(preflight.limits, budget=sys.maxsize)
    reasons = replace(preflight, options=replace(options, partial=False), limits=boundless).reasons
    if schedule.into is Into.SAME and not seen.has_key:
        reasons.append(
            f"{preflight.manifest.name} has no key column, and --into same needs one: it tells which rows are new. "
            "Name a column of yours: --map key=COLUMN, or use --into new."
        )
    if preflight.mistake:
        reasons.append(f"{preflight.mistake}. That needs --reuse, or --buy-again.")
    others = len(reasons)
    if seen.images and not options.partial and not seen.unpriced and seen.needed > left.money:
        reasons.append(over_budget(preflight, schedule, left))
    if reasons and not others:
        raise OverBudget(reasons[0], _reason_of(left), told(preflight, left))
    if reasons:
        raise BadInput(reasons)


def _cancelled(preflight: Preflight, schedule: NewSchedule) -> str:
    """That the batch of all times takes no more rows, also where nothing is new: it may have rows that are not made."""
    ledger, name = preflight.ledger, schedule.name
    other = ledger.batches.other_name(name) if ledger else f"{name}-2"
    anew = f"add the schedule under another name, such as {other}, with --reuse: what is stored is not paid again"
    is_known = ledger is not None and ledger.schedules.find(name) is not None
    remove = command("schedule", "remove", name, sandbox=preflight.settings.is_sandbox)
    first = f". First remove this one:  {remove}" if is_known else ""
    return f"batch {name} was cancelled for good, and --into same makes all in it. To go on, {anew}{first}"


def _reason_of(left: Left) -> Reason:
    """The budget that leaves least."""
    return Reason.MONTH_BUDGET_USED if left.is_of_month else Reason.BUDGET_USED


def _buys_nothing(preflight: Preflight) -> bool:
    """Whether there is something to pay for, and too little money for the first of it."""
    seen, budget = preflight.seen, preflight.limits.budget or 0
    return bool(seen.images) and not seen.unpriced and not seen.affordable(budget, preflight.batch)


def _is_for_nothing(preflight: Preflight, schedule: NewSchedule) -> bool:
    """Whether a time that buys nothing is not to be recorded.

    A batch of its own would be empty, or hold what is made already: the next time makes all. In the one of all times,
    changed rows would lose their images to others that nobody makes; new rows wait there until there is money.
    """
    return schedule.into is Into.NEW or (bool(preflight.seen.disputed) and preflight.options.changed == "redo")


def over_budget(preflight: Preflight, schedule: NewSchedule, left: Left) -> str:
    """That an estimate is above what may be spent, with the command that allows it."""
    seen = preflight.seen
    waits = f", {count(seen.waiting_images, 'image')} of rows on record that wait" if seen.waiting_images else ""
    last = f"; {held_words(seen.margin)}" if seen.margin else ""
    allowed = allowed_by(schedule, seen.needed, left.spent, sandbox=preflight.settings.is_sandbox)
    pays_for = seen.affordable(left.money + _of_its_batch(preflight.batch), preflight.batch)
    partial = (
        f" With --partial it makes {seen.roughly} {pays_for:,} of them, and later times the rest." if pays_for else ""
    )
    return (
        f"{count(seen.images, 'image')} would cost {money(seen.needed)} ({seen.new:,} new, {seen.changed:,} changed "
        f"rows{waits}{last}), and this time may spend {left.why}. Nothing was spent.{partial}{allowed}"
    )


def problem_by_now(schedule: Schedule, firing: Firing, spent: int, *, sandbox: bool) -> str | None:
    """Why a time failed, with a command only where it still helps: the month may have cost more since, or be raised.

    `spent`: of this month, in micro-dollars.
    """
    problem, proposes, _ = (firing.message or "").partition(TO_ALLOW)
    if not proposes or firing.message == problem + allowed_by(
        schedule, firing.detail.get("estimate", 0), spent, sandbox=sandbox
    ):
        return firing.message
    return f"{problem} What it would cost now:  {command('schedule', 'show', schedule.name, sandbox=sandbox)}"


def _demand_settled(preflight: Preflight) -> None:
    """A file that was written a moment ago may not be whole."""
    state = preflight.source.state or {}
    modified = state.get("modified")
    if isinstance(modified, int) and 0 <= time.time() - modified / 1e9 < SETTLED:
        raise _LaterError(f"{preflight.manifest.name} is just being written")


# -- what is told --------------------------------------------------------------------------------------------------


def told(preflight: Preflight, left: Left, rows_before: int | None = None) -> dict[str, Any]:
    """What its plan said, as plain JSON values; money in micro-dollars. `rows_before`: of the time before it."""
    seen = preflight.seen
    return {
        "rows": seen.rows,
        **({} if rows_before is None else {"rows_before": rows_before}),
        "new": seen.new,
        "changed": seen.changed,
        "unchanged": seen.done + seen.open + seen.ended,
        "gone": seen.again.absent,
        "reused": seen.reused,
        "skipped": seen.skipped,
        "bad": seen.bad,
        "images": seen.images,
        "waiting": seen.waiting_images,  # of these, those of rows that were on record
        "estimate": seen.needed,  # what decides whether it may begin
        "margin": seen.margin,  # of that, what the last image holds only while it is made
        "budget": left.money,
    }


def settings_words(changed: Sequence[str]) -> str:
    """That this process has older settings than these files."""
    files = " and ".join(changed)
    verb = "have" if len(changed) > 1 else "has"
    return f"{files} {verb} changed since this process began, which reads settings once: start it again"


def _nothing_new(services: Services, schedule: Schedule, firing: Firing) -> Ended:
    """The end of a time whose manifest is as it was: rows that needed a person still do."""
    progress = services.ledger.reports.progress(options_of(schedule, firing.at, by_hand=firing.by_hand).batch)
    ended, rows = ended_with(schedule, progress), rows_in_need(progress)
    made = f"{count(rows, 'row')} of it need{'s' if rows == 1 else ''} you" if rows else "all of it was made"
    return replace(ended, message=f"nothing is new: the manifest is as it was, and {made}")


def _bought_nothing(preflight: Preflight, schedule: Schedule, left: Left, now: float) -> Ended:
    """The end of a time with --partial that has no money for its first image, and is not recorded."""
    seen = preflight.seen
    least = min(line.least for line in seen.routes)
    kept = f", and the changed {'row keeps its' if seen.disputed == 1 else 'rows keep their'} images"
    made = f", and no batch is made for {count(seen.reused, 'row')} with images already: the next time makes all"
    is_new = schedule.into is Into.NEW
    more = made if is_new and seen.reused else kept if not is_new and seen.disputed else ""
    goes_on = _next_month(schedule, now) if left.is_of_month else ""
    allowed = allowed_by(schedule, seen.needed, left.spent, sandbox=preflight.settings.is_sandbox)
    message = (
        f"nothing was bought: a first image needs {money(least)}, and this time may spend {left.why}; "
        f"{count(seen.images, 'image')} left out{more}.{goes_on}{allowed}"
    )
    detail = {**told(preflight, left), LEFT_OUT: seen.images, MADE: 0}
    code = NeedsPerson.exit_code
    return Ended(state=FiringState.ENDED, exit_code=code, code=_reason_of(left).value, message=message, detail=detail)


def _next_month(schedule: Schedule, now: float) -> str:
    """When the first time with the money of the next month comes."""
    at = next_time(schedule.cron, schedule.timezone, next_month(now) - 1)
    return f" The next month goes on with them, at {day_and_minute(at)}."


def _failed(code: str, message: str) -> Ended:
    return Ended(state=FiringState.FAILED, exit_code=BadInput.exit_code, code=code, message=one_line(message))


def _end(services: Services, firing: Firing, ended: Ended) -> None:
    services.ledger.schedules.fail(firing.id, services.holder, ended, services.clock.now())


def _try_later(services: Services, schedule: Schedule, firing: Firing, message: str) -> None:
    if firing.tries >= TRIES:
        _end(services, firing, _failed("tried_in_vain", message))
        return
    until, message = services.clock.now() + (WAIT if firing.tries > 1 else SETTLED * 2), one_line(message)
    services.ledger.schedules.put_off(firing.id, services.holder, until, message)
    if is_telling(firing.tries):
        what = {"schedule": schedule.name, "at": utc(firing.at), "times": firing.tries, "until": utc(until)}
        emit("schedule_put_off", level="warning", **what, problem=message)
