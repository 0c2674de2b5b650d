"""`lightfast schedule …`: batches by the clock."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.command import CONTEXT, Command
from cli.flow.notify import addresses
from cli.flow.options import Config, Json, Sandbox, Sure, takes
from cli.flow.scheduling import (
    EditOptions,
    ScheduleOptions,
    asks_for_more,
    may_cost_more,
    may_spend,
    merged,
    next_plan,
    read_schedule,
    would_fail,
    would_make,
)
from cli.flow.serving import at_work, held_ledger, work_for_all
from cli.flow.session import (
    LedgerSession,
    note,
    now_of,
    open_session,
    opened_or_made,
    put_on_log,
    session_of,
    show,
    show_json,
)
from cli.flow.settings import NOWHERE, read_settings
from cli.output.schedules import history_lines, page, table
from jobs.command_lines import command
from jobs.errors import BadInput, LightfastError, NeedsPerson
from jobs.formatting import count, day_and_minute, money, utc
from jobs.results.emergency_stop import told as told_of_stop
from jobs.states import FIRING_OPEN, FiringState
from worker.registration.preflight import existing_ledger
from worker.runtime.on_the_wire import SKIPPED
from worker.scheduling.documents import (
    MISSED_SHOWN_FOR,
    as_of_now,
    firing_document,
    history_of,
    listed,
    plan_document,
    schedule_document,
    whole_document,
)

if TYPE_CHECKING:
    from jobs.ledger import Ledger
    from jobs.ledger.schedules.values import Firing, InTheWay, NewSchedule, Schedule
    from jobs.settings.model import Settings
    from worker.registration.preflight import Preflight
    from worker.scheduling.by_hand import FiredByHand

Name = Annotated[str, typer.Argument(metavar="NAME", help="The schedule's name.", show_default=False)]
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,79}")


# -- adding and editing --------------------------------------------------------------------------------------------


@takes(ScheduleOptions, first=("name", "cron"))
def add(options: ScheduleOptions) -> int:
    """Puts a schedule on record, after showing what its first time would cost."""
    if not _NAME.fullmatch(options.name):
        raise BadInput(f'NAME: "{options.name}": expected letters, digits, . _ - (up to 80)')
    settings = _settings(options.config, sandbox=options.sandbox)
    addresses(options.notify, settings, here=False)
    with existing_ledger(settings) as ledger:
        new = read_schedule(options, on_a_cluster=settings.database_path is None)
        if ledger and ledger.schedules.find(new.name):
            raise _there_is_one(new.name, sandbox=settings.is_sandbox)
        _look(options, settings, ledger, new)
        _agree(options, settings, new, "add")
        with opened_or_made(settings) as session:
            if not session.ledger.schedules.add(new, now_of(session)):
                raise _there_is_one(new.name, sandbox=settings.is_sandbox)
            _told(session, new.name, "add", json=options.json)
    return 0


def _there_is_one(name: str, *, sandbox: bool) -> BadInput:
    return BadInput(f"There is a schedule {name} already:  {command('schedule', 'show', name, sandbox=sandbox)}")


@takes(EditOptions, first=("name",))
def edit(options: EditOptions) -> int:
    """Changes what is said, and asks where that may cost more; what is not said stays."""
    settings = _settings(options.config, sandbox=options.sandbox)
    with session_of(settings) as session:
        before = _find(session, options.name)
        addresses(options.notify, settings, here=False)
        merge = merged(before, options)
        new = read_schedule(merge, on_a_cluster=settings.database_path is None)
        if may_cost_more(before, new):
            _look(merge, settings, session.ledger, new)
        if asks_for_more(before, new):
            _agree(merge, settings, new, "edit")
        session.ledger.schedules.edit(new, now_of(session))
        _told(session, new.name, "edit", json=options.json)
    return 0


def _look(options: ScheduleOptions, settings: Settings, ledger: Ledger | None, new: NewSchedule) -> None:
    """Shows what its next time would make."""
    from cli.flow import plan_screen
    from cli.flow.environment import probe
    from worker.registration.destination import check_mark, trackless
    from worker.scheduling.reading import left_to, with_budget

    # A budget that no month could keep is refused; of one that this month has used, the next begins anew.
    with next_plan(settings, ledger, new, left_to(new, None, time.time())) as planned, trackless(planned.dest):
        left = left_to(new, ledger, time.time())
        preflight = with_budget(planned, left.money)
        store, probed = probe(preflight.dest)
        if preflight.batch is None:
            check_mark(store, preflight.name, ledger.ledger_id if ledger else None)
        short = options.quiet or options.json
        whole = plan_screen.page(preflight, probed, everything=options.all, of_time=left.money)
        line, style = would_make(preflight, new, left)
        now = [(line, style)] if style or not short else []
        show(
            [*(plan_screen.before_money(preflight) if short else whole), *now], sandbox=settings.is_sandbox, stderr=True
        )


def _agree(options: ScheduleOptions, settings: Settings, new: NewSchedule, verb: str) -> None:
    """Asks for what it may spend."""
    from cli.flow.consent import confirm

    question = f"Let {new.name} spend {may_spend(new)}, without asking again?"
    confirm(question, yes=options.yes, sandbox=settings.is_sandbox, command=f"schedule {verb}")


# -- looking -------------------------------------------------------------------------------------------------------


def list_(*, json: Json = False, config: Config = None, sandbox: Sandbox = False) -> int:
    """All schedules: when they come next, and how their last time went."""
    with open_session(config, sandbox=sandbox) as session:
        ledger, now, mark = session.ledger, now_of(session), session.settings.is_sandbox
        if json:
            show_json({"command": "schedule list", "schedules": listed(ledger, now, sandbox=mark)})
            return 0
        every, found = ledger.schedules.all(), ledger.schedules.newest(now)
        newest = {one.id: as_of_now(ledger, one, found[one.id], now, sandbox=mark) for one in every if one.id in found}
        missed = ledger.schedules.missed(now - MISSED_SHOWN_FOR)
        show([*_stop_line(session), *table(every, newest, missed, sandbox=mark)], sandbox=mark)
        _say_who_works(session, every)
    return 0


def show_one(name: Name, *, json: Json = False, config: Config = None, sandbox: Sandbox = False) -> int:
    """One schedule: its next times, its history, and what the next one would pay."""
    settings = _settings(config, sandbox=sandbox)
    with session_of(settings) as session:
        schedule, now, mark = _find(session, name), now_of(session), settings.is_sandbox
        would = _would_pay(session, schedule)
        if json:
            told = whole_document(session.ledger, schedule, now, sandbox=mark)
            show_json({"command": "schedule show", **told, "next_would": would.document})
        else:
            spent = session.ledger.schedules.spent_this_month(schedule.id, now)
            history = history_of(session.ledger, schedule, now, sandbox=mark)
            lines = [*_stop_line(session), *page(schedule, spent, history, now), (would.line, would.style)]
            show(lines, sandbox=mark)
            _say_who_works(session, [schedule])
    return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Would:
    """What the next time would pay, were it now."""

    line: str
    style: str
    document: dict[str, object]


def _would_pay(session: LedgerSession, schedule: Schedule) -> _Would:
    from worker.scheduling.reading import left_to, told

    left = left_to(schedule, session.ledger, now_of(session))
    try:
        with next_plan(session.settings, session.ledger, schedule, left) as preflight:
            line, style = would_make(preflight, schedule, left)
            more = _on_its_way(session, preflight)
            return _Would(line=f"{line}{more}", style=style, document=plan_document(told(preflight, left)))
    except LightfastError as wrong:
        return _Would(line=would_fail(wrong), style="red", document={"problem": str(wrong)})


def _on_its_way(session: LedgerSession, preflight: Preflight) -> str:
    """Which of the images that a time would make are on record already, and which are made besides."""
    if preflight.batch is None:
        return ""
    waiting, progress = preflight.seen.waiting_images, session.ledger.reports.progress(preflight.batch.name)
    told = [f"{waiting:,} of them wait{'s' if waiting == 1 else ''} in its batch already"] if waiting else []
    if flying := progress.images_in_flight:
        told.append(f"{flying:,} {'is' if flying == 1 else 'are'} being made now, and not counted")
    return "".join(f"; {each}" for each in told)


def _stop_line(session: LedgerSession) -> Iterator[tuple[str, str]]:
    if stop := session.ledger.emergency_stop.current():
        yield f"{told_of_stop(stop, sandbox=session.settings.is_sandbox)} {SKIPPED}", "red"


def _say_who_works(session: LedgerSession, schedules: Sequence[Schedule]) -> None:
    """That times come and nobody sees them."""
    waiting = any(each.next_at is not None for each in schedules)
    if waiting and session.ledger.is_sqlite and not session.ledger.is_served():
        serve = command("schedule", "serve", sandbox=session.settings.is_sandbox)
        note(f"Nobody works by the clock here now:  {serve}")


# -- steering ------------------------------------------------------------------------------------------------------


def pause(name: Name, *, json: Json = False, config: Config = None, sandbox: Sandbox = False) -> int:
    """No time of it fires until it is resumed, and none that waits; what is recorded goes on."""
    return _steer(name, "pause", json=json, config=config, sandbox=sandbox)


def resume(name: Name, *, json: Json = False, config: Config = None, sandbox: Sandbox = False) -> int:
    """Its times fire again; those that passed meanwhile do not."""
    return _steer(name, "resume", json=json, config=config, sandbox=sandbox)


def _steer(name: str, verb: str, *, json: bool, config: Path | None, sandbox: bool) -> int:
    with open_session(config, sandbox=sandbox) as session:
        _find(session, name)
        if verb == "pause":
            session.ledger.schedules.pause(name, now_of(session))
        else:
            session.ledger.schedules.resume(name, now_of(session))
        put_on_log(session, f"schedule {verb}", name)
        _told(session, name, verb, json=json)
    return 0


def remove(
    name: Name, *, yes: Sure = False, json: Json = False, config: Config = None, sandbox: Sandbox = False
) -> int:
    """Takes it off the record, with its history; its batches stay, and what has begun goes on."""
    from cli.flow.consent import confirm

    with open_session(config, sandbox=sandbox) as session:
        schedule = _find(session, name)
        spent = session.ledger.schedules.spent_this_month(schedule.id, now_of(session))
        forgets = f" {money(spent)} of this month are no longer counted: one that is added anew has its whole month."
        told = forgets if spent else ""
        question = f"Remove the schedule {name} and its history? Its batches stay.{told}"
        confirm(question, yes=yes, sandbox=session.settings.is_sandbox, command="schedule remove")
        session.ledger.schedules.remove(name)
        put_on_log(session, "schedule remove", name)
        note(f"{name} is removed; its batches stay.{told}")
        if json:
            show_json({"command": "schedule remove", "name": name})
    return 0


# -- working -------------------------------------------------------------------------------------------------------


def run_now(name: Name, *, json: Json = False, config: Config = None, sandbox: Sandbox = False) -> int:
    """Fires it now, within its budgets. On SQLite it is worked here where nobody else works by the clock."""
    with open_session(config, sandbox=sandbox) as session:
        schedule, at = _find(session, name), now_of(session)
        if stop := session.ledger.emergency_stop.current():
            raise NeedsPerson(told_of_stop(stop, sandbox=session.settings.is_sandbox))
        is_heard = not session.ledger.is_sqlite or session.ledger.is_served()
        show_it = command("schedule", "show", name, sandbox=session.settings.is_sandbox)
        if is_heard:
            if in_the_way := session.ledger.schedules.fire_by_hand(name, at):
                raise _not_fired(schedule, in_the_way, show_it, sandbox=session.settings.is_sandbox)
            put_on_log(session, "schedule run-now", name)
            _wake(session)
            note(f"{name} was fired; how it goes:  {show_it}")
            if json:
                show_json({"command": "schedule run-now", "name": name, "at": utc(at)})
            return 0
        # A run that holds the ledger would not hear of it: who holds it is told before a stand-in is started.
        with session.ledger.hold(time.time()):
            _say_what_is_first(session, schedule)
    return _work_here(config, schedule, json=json, sandbox=sandbox)


def _not_fired(schedule: Schedule, in_the_way: InTheWay, show_it: str, *, sandbox: bool) -> LightfastError:
    """Why it is not fired, with what helps."""
    why = f"{schedule.name}: {in_the_way.why}."
    if not in_the_way.needs_a_person:
        return BadInput(f"{why} See  {show_it}")
    return NeedsPerson(f"{why} {_resume_or_cancel(in_the_way.batches, sandbox=sandbox)}")


def _resume_or_cancel(batches: Sequence[str], *, sandbox: bool) -> str:
    """The commands after which a batch is in nobody's way any more."""
    told = (
        f"To go on with {name}:  {command('resume', name, sandbox=sandbox)}\n"
        f"To give up its other rows:  {command('cancel', name, sandbox=sandbox)}"
        for name in batches
    )
    return "\n".join(told)


def _say_what_is_first(session: LedgerSession, schedule: Schedule) -> None:
    """Says what this process ends before it fires the schedule."""
    ledger = session.ledger
    open_ = [each for each in ledger.schedules.not_over(schedule.id) if each.state in FIRING_OPEN]
    in_the_way = ledger.schedules.in_the_way(schedule.id)
    theirs = {each.batch for each in open_}
    batches = [name for name in (in_the_way.batches if in_the_way else ()) if name not in theirs]
    if open_:
        times = " and ".join(day_and_minute(each.at) for each in open_)
        verb = "is" if len(open_) == 1 else "are"
        note(f"{schedule.name}: {times} {verb} not over, and nobody works on it: this process ends that first.")
    if batches:
        verb = "has" if len(batches) == 1 else "have"
        note(
            f"{schedule.name}: {', '.join(batches)} {verb} rows that wait or are being made: this process goes on "
            "with these first."
        )


def _wake(session: LedgerSession) -> None:
    if not session.ledger.is_sqlite:
        from worker.tasks import wake_lanes

        wake_lanes(["sweep"])


def _work_here(config: Path | None, schedule: Schedule, *, json: bool, sandbox: bool) -> int:
    """Works for this schedule: fires it when its earlier times are over, and ends when all that it began is over."""
    from cli.flow.execute import log_events

    with open_session(config, sandbox=sandbox, works=True) as session:
        log_events(session.settings)
        # It hears of nothing that comes later, so it does not serve: `submit` beside it is refused.
        with session.ledger.hold(time.time()):
            code, by_hand = asyncio.run(_fire(session.settings, schedule))
        ending = _ending_of(session, schedule, by_hand, code)
        if json:
            none = {"at": None, "state": None, "exit_code": ending.code, "message": ending.message}
            told = none if ending.fired is None else firing_document(ending.fired)
            show_json({"command": "schedule run-now", "name": schedule.name, **told})
        else:
            lines = [
                (f"{schedule.name}  {line.removeprefix('history').strip()}", style)
                for line, style in history_lines(ending.times)
            ]
            show(lines, sandbox=session.settings.is_sandbox)
    if ending.message:
        note(ending.message)
    return ending.code


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ending:
    """How `run-now` ended where it has worked itself."""

    code: int
    fired: Firing | None  # None: it was not fired, or is not on record any more
    times: Sequence[Firing]  # that and others that went on meanwhile, the newest first
    message: str  # what is to be said beside them; "": nothing


def _ending_of(session: LedgerSession, schedule: Schedule, by_hand: FiredByHand, code: int) -> _Ending:
    """`code`: of the signal that has ended it; 0: none."""
    ledger, name, sandbox = session.ledger, schedule.name, session.settings.is_sandbox
    history = ledger.schedules.history(schedule.id, with_charges=True)
    fired = next((each for each in history if each.by_hand and each.at == by_hand.at), None)
    times = [each for each in history if each.id in by_hand.times or each is fired]
    if by_hand.is_removed:
        return _ending_of_removed(session, schedule, by_hand, code)
    not_fired = "" if fired is not None else f"{name} was not fired"
    message = ""
    if code:
        is_left = fired is None or fired.state in FIRING_OPEN
        message = f"{not_fired or f'{name} is not over'}: the same command goes on." if is_left else ""
    elif by_hand.stop is not None:
        code = NeedsPerson.exit_code
        waits = not_fired or f"{name} was fired, and its time waits"
        message = f"{waits}: {told_of_stop(by_hand.stop, sandbox=sandbox)}"
    elif by_hand.waiting:
        code = NeedsPerson.exit_code
        why = "\n".join(
            f"Its batch {each.batch} waits, and would be bought twice: {each.why}." for each in by_hand.waiting
        )
        helps = _resume_or_cancel([each.batch for each in by_hand.waiting], sandbox=sandbox)
        message = f"{not_fired}. {why}\n{helps}"
    elif fired is not None and fired.state is FiringState.SKIPPED:
        code = NeedsPerson.exit_code
    elif fired is not None:
        code = fired.exit_code or 0
    return _Ending(code=code, fired=fired, times=times, message=message)


def _ending_of_removed(session: LedgerSession, schedule: Schedule, by_hand: FiredByHand, code: int) -> _Ending:
    """Its history is gone; what it has begun is told by its batches. With rows left, it ends with 4."""
    from jobs.results.progress import rows_going_on

    ledger, sandbox = session.ledger, session.settings.is_sandbox
    found = [ledger.reports.progress(name) for name in by_hand.batches if ledger.batches.find(name)]
    left = {each.batch.name: rows for each in found if (rows := rows_going_on(each))}
    waits = "".join(
        f"\n{count(rows, 'row')} of {name} {'is' if rows == 1 else 'are'} not made. To go on with "
        f"{'it' if rows == 1 else 'them'}:  {command('retry', name, sandbox=sandbox)}"
        for name, rows in left.items()
    )
    paid = "what was being made is stored" if not code else "what is paid is stored by the next run"
    message = f"{schedule.name} was removed meanwhile: {paid if found else 'nothing was begun'}.{waits}"
    return _Ending(
        code=code or (NeedsPerson.exit_code if left or not found else 0), fired=None, times=(), message=message
    )


def serve(*, config: Config = None, sandbox: Sandbox = False) -> int:
    """Works schedules and batches in this process until it is stopped; beside it `submit` records, and it is heard."""
    from cli.flow.environment import settings_for
    from worker.runtime.telemetry import configure

    with settings_for(config, sandbox=sandbox) as settings, held_ledger(settings, "schedule serve") as session:
        configure(settings.log)
        every = session.ledger.schedules.all()
        note(f"Working {count(len(every), 'schedule')} and every batch on record, until Ctrl-C.")
        return asyncio.run(work_for_all(settings))


async def _fire(settings: Settings, schedule: Schedule) -> tuple[int, FiredByHand]:
    from worker.local.serve import serve as work
    from worker.scheduling.by_hand import FiredByHand

    async with at_work(settings) as (services, stop):
        by_hand = FiredByHand(services=services, schedule=schedule)
        await work(services, stop=stop, is_over=by_hand.is_over, of_schedule=schedule.id)
        return stop.exit_code, by_hand


# -- what they share -----------------------------------------------------------------------------------------------


def _settings(config: Path | None, *, sandbox: bool) -> Settings:
    """The settings. No stand-in is started: the one of who works by the clock may be running."""
    return read_settings(config, sandbox_url=NOWHERE if sandbox else None)


def _find(session: LedgerSession, name: str) -> Schedule:
    from jobs.results.rows import near

    found = session.ledger.schedules.find(name)
    if found is None:
        names = [each.name for each in session.ledger.schedules.all()]
        raise BadInput(f"There is no schedule {name!r} in this ledger. {near(name, names)}")
    return found


def _told(session: LedgerSession, name: str, verb: str, *, json: bool) -> None:
    schedule = _find(session, name)
    when = "it is paused" if schedule.next_at is None else f"its next time is {day_and_minute(schedule.next_at)}"
    note(f"{name}: {when}; it may spend {may_spend(schedule)}.")
    _say_who_works(session, [schedule])
    if json:
        newest = session.ledger.schedules.newest(now_of(session), with_charges=True).get(schedule.id)
        show_json({"command": f"schedule {verb}", **schedule_document(schedule, newest)})


app = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True)
for _name, _function in {
    "add": add,
    "list": list_,
    "show": show_one,
    "run-now": run_now,
    "pause": pause,
    "resume": resume,
    "remove": remove,
    "edit": edit,
    "serve": serve,
}.items():
    app.command(_name, cls=Command, context_settings=CONTEXT)(_function)
