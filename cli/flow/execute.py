"""Works a batch here and now: progress while it goes, a calm end on Ctrl-C, and a summary that says what to do next."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cli.flow.session import show, show_json
from cli.output import endings, events
from cli.output.progress import Screen, open_screen
from cli.output.retries import helps
from jobs import formatting
from jobs.command_lines import command, in_another_batch, repeated
from jobs.errors import UNREADABLE_ROW
from jobs.planning.survey import made_in_another
from jobs.results import copy_stops, sentences
from jobs.results.budgets import budget_for_all, of_budget_words, raise_budget, raise_month
from jobs.results.completion import exit_code_when_over
from jobs.results.documents import progress_document, read_figures
from jobs.results.progress import counted_by, spent
from jobs.results.rows import free_column
from jobs.results.sentences import next_try_line, out_of_manifest
from jobs.results.stuck import stuck_lines
from jobs.states import ENDED_BADLY, NEEDS_A_PERSON, BatchState, JobState
from worker.local.run import Reason, RunEnding, StopSignal, run_batch
from worker.registration.options import WorkLimits
from worker.runtime import telemetry
from worker.runtime.garbage import collect_rarely
from worker.services import build

if TYPE_CHECKING:
    from jobs.ledger import Ledger
    from jobs.ledger.reports.values import Progress
    from jobs.settings.model import Settings
    from worker.notifications.channels import Channel

#: Width of a summary's labels.
_LABEL = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputMode:
    """How much is said, and where."""

    json: bool = False
    quiet: bool = False
    next: str = ""  # what to do after a run that is finished; else the results
    goes_on: str = ""  # the command that goes on with rows that are left; else the same one


def work(
    settings: Settings,
    ledger: Ledger,
    name: str,
    limits: WorkLimits,
    mode: OutputMode,
    also: Sequence[Channel] = (),
) -> int:
    """Runs the batch until it ends, waits for a person, or is stopped; returns the exit code. The ledger is held.

    `also`: who is told of it, beside those that the settings name.
    """
    started = time.monotonic()
    is_quiet = mode.quiet or mode.json
    screen = open_screen(quiet=is_quiet, sandbox=settings.is_sandbox, log=settings.log)
    log_events(settings, is_shown=True)  # after the screen, which lets them through above its panel
    try:
        ending = asyncio.run(_run(settings, ledger, name, limits, screen, also, is_watched=not is_quiet))
    finally:
        screen.close()
    seconds = time.monotonic() - started
    ended = RunOutcome(
        ending=ending,
        message=endings.message(ending),
        code=exit_code(ending, limits),
        seconds=seconds,
        goes_on=mode.goes_on,
    )
    tell(ended, ledger, mode)
    return ended.code


def log_events(settings: Settings, *, is_shown: bool = False) -> None:
    """Events go to stderr: as JSON for programs, and for people in sentences, only those that warn.

    `is_shown`: a screen tells beside them what holds the batch up.
    """
    if settings.log == "json":
        telemetry.configure("json", level="info")
        return
    telemetry.configure(
        level="warning", told=events.said, untold=events.SHOWN if is_shown else (), always=events.GOOD_NEWS
    )


def tell(ended: RunOutcome, ledger: Ledger, mode: OutputMode) -> None:
    """How it ended: a document for programs, a summary for people."""
    if mode.json:
        show_json(document(ended, ledger))
    else:
        batch = ended.progress.batch
        another = ledger.batches.other_name(batch.name) if batch.state is BatchState.CANCELLED else ""
        show(summary(ended, mode.next, another), sandbox=batch.sandbox)


async def _run(  # noqa: PLR0913  handed on
    settings: Settings,
    ledger: Ledger,
    name: str,
    limits: WorkLimits,
    screen: Screen,
    also: Sequence[Channel],
    *,
    is_watched: bool,
) -> RunEnding:
    stop = StopSignal()
    _listen(stop, screen)
    services = build(settings, ledger=ledger, also=also)
    collect_rarely()
    try:
        return await run_batch(
            services,
            name,
            max_stall=limits.max_stall,
            stop_after=limits.stop_after,
            on_progress=screen.show,
            stop=stop,
            held=True,
            is_watched=is_watched,
        )
    finally:
        await services.close()


def exit_code(ending: RunEnding, limits: WorkLimits) -> int:
    """The exit code of the run; 0 if no more rows failed than --allow-failed permits."""
    if ending.reason is not Reason.ROWS_NEED_YOU:
        return ending.exit_code
    return exit_code_when_over(ending.progress, limits.allowed)


# -- signals -------------------------------------------------------------------------------------------------------


def _listen(stop: StopSignal, screen: Screen) -> None:
    """The first Ctrl-C drains, the second quits at once. SIGTERM and a closed terminal always drain."""
    loop = asyncio.get_running_loop()
    for number, act in stop.handlers().items():
        if number is signal.SIGHUP:
            loop.add_signal_handler(number, _on_hang_up, act)
        else:
            loop.add_signal_handler(number, _on_signal, stop, screen, act)


def _on_signal(stop: StopSignal, screen: Screen, act: Callable[[], None]) -> None:
    if not stop.first.is_set():
        screen.say(stopping_line(stop.open_submits()))
    act()


def _on_hang_up(act: Callable[[], None]) -> None:
    """Sends output to nowhere: writes to a closed terminal would fail while the last facts are recorded."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        if stat.S_ISCHR(os.fstat(number).st_mode):  # of a terminal that is gone, isatty says no
            os.dup2(nowhere, number)
    act()


def stopping_line(in_the_air: int) -> str:
    """What is said after the first Ctrl-C."""
    if not in_the_air:
        return "stopping: no submit is on its way (Ctrl-C again quits at once)"
    submits = formatting.count(in_the_air, "submit")
    return f"stopping: {submits} on the way, waiting for the answers (Ctrl-C again quits at once)"


# -- the summary ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOutcome:
    """A run that is over."""

    ending: RunEnding
    code: int
    message: str  # why it ended
    seconds: float | None  # that it took; None: it was others' work, and only watched
    command: str = "run"
    goes_on: str = ""  # the command that goes on with rows that are left; else the same one

    @property
    def progress(self) -> Progress:
        """The batch, counted at the end."""
        return self.ending.progress


Line = tuple[str, str]  # text, style


def summary(ended: RunOutcome, then: str = "", another: str = "") -> Iterator[Line]:
    """Every line of the summary, with its style.

    `then`: what to do next, if not the usual. `another`: a name for the batch that takes a cancelled one's rows.
    """
    progress = ended.progress
    yield _headline(ended), "bold"
    yield from _rows(progress)
    yield _money(progress), ""
    yield from _next(ended, then)
    if another and progress.jobs.get(JobState.CANCELLED):
        yield from ((f"{'':{_LABEL}}{told}", "") for told in _cancelled(progress, another))


def _headline(ended: RunOutcome) -> str:
    name, took = ended.progress.batch.name, _took(ended)
    if ended.ending.reason is Reason.DONE:
        return f"{name}: finished{took}, {_all_done(ended.progress)}"
    if ended.ending.reason is Reason.ROWS_NEED_YOU:
        needy = sum(number for _, number in _states(ended.progress, NEEDS_A_PERSON))
        if not needy:
            return f"{name}: ended, {formatting.count(ended.progress.jobs.get(JobState.CANCELLED, 0), 'row')} cancelled"
        return f"{name}: finished{took}, {formatting.count(needy, 'row')} need{'s' if needy == 1 else ''} you"
    return f"{name}: {ended.message}"


#: Seconds that a run takes to record its batch, and more: one that is older was begun by an earlier run.
_RECORDED_WITHIN = 60.0


def _took(ended: RunOutcome) -> str:
    """How long it took: of a batch that an earlier run began, this run alone, and when the batch began."""
    if ended.seconds is None:
        return ""
    span, began = formatting.duration(ended.seconds), ended.progress.batch.created_at
    if ended.ending.standing.now - began < ended.seconds + _RECORDED_WITHIN:
        return f" in {span}"
    return f" (this run took {span}, the batch began {formatting.day_and_minute(began)})"


def _all_done(progress: Progress) -> str:
    """How many rows are done. Rows that the user left out have not failed, but are not done either."""
    bad, skipped = progress.jobs.get(JobState.INVALID, 0), progress.jobs.get(JobState.SKIPPED, 0)
    if not (bad or skipped):
        return "every row is done"
    parts = [f"{bad:,} bad left out"] * bool(bad) + [f"{skipped:,} skipped"] * bool(skipped)
    return ", ".join([f"{formatting.count(progress.jobs.get(JobState.DONE, 0), 'row')} done", *parts])


#: What rows that were not finished wait for.
_LABELS = {JobState.READY: "waiting", JobState.WORKING: "under way"}


def _rows(progress: Progress) -> Iterator[Line]:
    ended_badly = [state for state, _ in _states(progress, ENDED_BADLY)]
    tellers = {JobState.DONE: _done, JobState.HELD: _held, JobState.WORKING: sentences.under_way}
    if len(ended_badly) == 1:
        tellers[ended_badly[0]] = _reasons
    for state, number in _states(progress, tuple(JobState)):
        told = tellers[state](progress) if state in tellers else ""
        style = "green" if state is JobState.DONE else "yellow" if state in NEEDS_A_PERSON else ""
        yield (
            f"  {_LABELS.get(state, state.value):{_LABEL - 2}}{formatting.count(number, 'row'):>12}   {told}".rstrip(),
            style,
        )
    if len(ended_badly) > 1:
        rows = formatting.count(sum(progress.errors.values()), "row")
        yield f"  {'reasons':{_LABEL - 2}}{rows:>12}   {_reasons(progress)}", "yellow"


def _states(progress: Progress, states: tuple[JobState, ...]) -> Iterator[tuple[JobState, int]]:
    for state in sorted(states, key=lambda state: state is not JobState.DONE):
        if number := progress.jobs.get(state, 0):
            yield state, number


def _done(progress: Progress) -> str:
    images = formatting.count(progress.images_stored, "image")
    if progress.jobs.get(JobState.PARTIAL) or progress.errors.get("wrong_pixels"):
        images += " of all rows"  # of those that ended badly too
    odd = f" ({progress.wrong_pixels:,} with other pixels than asked for)" if progress.wrong_pixels else ""
    out = f"; {out_of_manifest(progress)}" if progress.rows_out else ""
    return f"{images}{odd}, {formatting.size(progress.bytes_stored)} -> {progress.batch.dest}{out}"


def _reasons(progress: Progress) -> str:
    """By code, of all rows that ended badly."""
    return formatting.listed(progress.errors)


def _held(progress: Progress) -> str:
    """Rows whose outcome nobody knows, and rows whose paid images cannot be stored."""
    stuck = (
        f"{formatting.count(progress.images_stuck, 'paid image')} ({formatting.money(progress.stuck_money)}) at risk"
    )
    told = [f"{stuck}: not stored without you, see below"] if progress.images_stuck else []
    if progress.images_unknown or not told:
        money = formatting.money(progress.unknown_money)
        look = command("unknown", progress.batch.name, sandbox=progress.batch.sandbox)
        told.append(f"outcome unknown, at most {money}:    {look}")
    return "; ".join(told)


def _money(progress: Progress) -> str:
    parts = [
        f"{spent(progress)}{of_budget_words(progress)} ({counted_by(progress)})",
        *([f"{formatting.money(progress.in_flight_money)} reserved in flight"] if progress.in_flight_money else []),
        f"unknown at most {formatting.money(progress.unknown_money)}",
        f"lost {formatting.money(progress.lost_money)}",
    ]
    return f"{'money':{_LABEL}}{', '.join(parts)}"


def _next(ended: RunOutcome, then: str) -> Iterator[Line]:
    name = ended.progress.batch.name
    sandbox = ended.progress.batch.sandbox
    if ended.ending.reason in (Reason.DONE, Reason.ROWS_NEED_YOU):
        results = command("results", name, "--per", "image", *_into("done.csv"), sandbox=sandbox)
        yield f"{'next':{_LABEL}}{then or results}", ""
        if not then and ended.progress.images_stored:
            yield f"{'':{_LABEL}}{command('results', name, *_into(f'{name}.html'), sandbox=sandbox)}", ""
            if len(ended.progress.batch.columns) > len(("key", "prompt")):
                yield f"{'':{_LABEL}}your manifest with the addresses of its pictures, for a shop:", ""
                yield f"{'':{_LABEL}}{_handed_back(ended.progress)}", ""
        yield from ((f"{'':{_LABEL}}{told}", "") for told in _for_bad_rows(ended.progress))
    else:
        left = ended.progress.jobs.get(JobState.READY, 0)
        waiting = f"{formatting.count(left, 'row')} wait{'s' if left == 1 else ''}"
        rows = f"; {waiting}, {sentences.at_most(ended.progress.remaining_money)}" if left else ""
        first = _first(ended)
        yield from ((f"{'' if at else 'next':{_LABEL}}{told}", "") for at, told in enumerate(first))
        same = f"{'then ' * bool(first)}{ended.goes_on or 'the same command'}"
        goes_on = "this" if _raises_budget(ended, first) else same
        yield f"{'' if first else 'next':{_LABEL}}{goes_on} goes on{rows}", ""
        if ended.ending.reason is Reason.NOTHING_STORED:
            yield from ((f"{'':{_LABEL}}{told}", "") for told in _where_nothing_is_stored(ended.progress))


def _cancelled(progress: Progress, another: str) -> Iterator[str]:
    """How rows that were cancelled are made after all."""
    rows = formatting.count(progress.jobs[JobState.CANCELLED], "cancelled row")
    if sys.argv[1:2] in (["run"], ["submit"]):
        yield f"{rows} in another batch, without paying again for what is stored:"
        yield in_another_batch(another, progress.batch.dest)
    else:
        yield f"{rows}. {made_in_another(another)}"


def _into(file: str) -> list[str]:
    """The options that write this file, also where it is there already; of another's file `results` says no."""
    return ["-o", file, *["--overwrite"] * Path(file).exists()]


def _handed_back(progress: Progress) -> str:
    """The command that gives the manifest back with a column of addresses, beside all that it had, as it came."""
    batch = progress.batch
    words = ["--columns", f"*,-lf_*,{free_column(batch.columns)}=lf_url", *_into(f"{batch.name}-import.csv")]
    if progress.jobs.get(JobState.INVALID):
        words += ["--except", UNREADABLE_ROW]
    if batch.delimiter not in (None, ","):
        words += ["--delimiter", "tab" if batch.delimiter == "\t" else batch.delimiter]
    return command("results", batch.name, *words, sandbox=batch.sandbox)


def _first(ended: RunOutcome) -> list[str]:
    """The commands that are needed before the same command can go on, or that go on themselves."""
    if ended.ending.reason is Reason.BUDGET_USED:
        return [_with_more_budget(ended.progress)]
    if ended.ending.reason is Reason.MONTH_BUDGET_USED:
        return raise_month(ended.progress)
    if ended.progress.batch.state is BatchState.PAUSED:  # whatever it ended for
        return [command("resume", ended.progress.batch.name, sandbox=ended.progress.batch.sandbox)]
    if ended.ending.reason is Reason.ALL_PAUSED:
        return [command("resume", "--all", sandbox=ended.progress.batch.sandbox)]
    return []


def _raises_budget(ended: RunOutcome, first: Sequence[str]) -> bool:
    """Whether the last of these commands gives the batch another budget: then it goes on with the batch, too."""
    more = ended.ending.reason is Reason.MONTH_BUDGET_USED and len(first) > 1
    return more or ended.ending.reason is Reason.BUDGET_USED


def _with_more_budget(progress: Progress) -> str:
    """The command that goes on with a budget for all that is left: one that sets a budget is named with the new one.

    Repeated as it was, it would set the old one again.
    """
    verb, *words = sys.argv[1:] or [""]
    sets_it = any(word.partition("=")[0] == "--budget" for word in words)
    if verb in ("run", "submit") and sets_it and "-" not in words:  # what came from standard input is not there again
        return repeated("--budget", budget_for_all(progress), without=("--budget",))
    return raise_budget(progress)


def _where_nothing_is_stored(progress: Progress) -> Iterator[str]:
    name, sandbox = progress.batch.name, progress.batch.sandbox
    for failing in progress.failing:
        yield next_try_line(failing)
        if failing.batch and failing.batch != name:
            yield copy_stops.helps(failing, name, sandbox=sandbox)
    if progress.images_generated:
        yield f"to end a row unstored:  {command('give-up', name, '--key', 'KEY', sandbox=sandbox)}"


def _for_bad_rows(progress: Progress) -> Iterator[str]:
    """What helps rows that ended badly, as commands to paste."""
    name, sandbox = progress.batch.name, progress.batch.sandbox
    if progress.batch.state is BatchState.CANCELLED:
        return
    yield from helps(name, progress.errors, sandbox=sandbox)
    if bad := progress.jobs.get(JobState.INVALID, 0):
        look = command("results", name, "--only", JobState.INVALID, "--columns", "lf_line,lf_message", sandbox=sandbox)
        yield f"what is wrong with {formatting.count(bad, 'bad row')} of the manifest:  {look}"
    yield from stuck_lines(progress)


def document(ended: RunOutcome, ledger: Ledger) -> dict[str, object]:
    """How it ended and how far the batch is, for programs."""
    figures = read_figures(ledger, ended.progress, time.time() + ledger.clock_offset())
    return {
        "command": ended.command,
        "exit_code": ended.code,
        "reason": ended.ending.reason.value,
        "message": ended.message,
        "seconds": None if ended.seconds is None else round(ended.seconds, 1),
        "cut_off": {"submits": ended.ending.unknown, "usd": formatting.usd(ended.ending.money)},
        **progress_document(figures),
    }
