"""What a person sees while a batch runs: a live panel at a terminal, a line now and then elsewhere."""

from __future__ import annotations

import math
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

from cli.output import terminal
from jobs import formatting
from jobs.results import sentences
from jobs.results.budgets import of_budget_words
from jobs.results.progress import (
    images_failing,
    images_per_second,
    images_to_come,
    is_paused,
    resting,
    seconds_left,
    spent,
)
from jobs.results.sentences import (
    not_copied,
)
from jobs.results.troubles import troubles
from jobs.states import NEEDS_A_PERSON, JobState

if TYPE_CHECKING:
    from rich.console import Group
    from rich.live import Live

    from jobs.ledger.accounts.values import Account
    from jobs.ledger.reports.values import Progress

#: Seconds between two plain lines, and between two where nothing has changed: silence looks like a program that hangs.
PLAIN_EVERY, UNCHANGED_EVERY = 10.0, 60.0
#: Counts are shown in this order.
_SHOWN = (
    JobState.READY,
    JobState.WORKING,
    JobState.DONE,
    JobState.PARTIAL,
    JobState.FAILED,
    JobState.LOST,
    JobState.HELD,
    JobState.CANCELLED,
)


class Screen(Protocol):
    """Shows how far a batch is."""

    def show(self, progress: Progress, accounts: Sequence[Account]) -> None:
        """The newest counts."""

    def say(self, text: str) -> None:
        """One line that stays."""

    def close(self) -> None:
        """Leave what was said on the screen."""


def open_screen(*, quiet: bool, sandbox: bool, log: str = "text") -> Screen:
    """A live panel if stderr is a terminal, else plain lines. `log`: a quiet command adds none to a log as JSON."""
    if quiet:
        return Silent() if log == "json" else PlainScreen(sandbox=sandbox, has_progress=False)
    return LiveScreen(sandbox=sandbox) if sys.stderr.isatty() else PlainScreen(sandbox=sandbox)


class Silent:
    """--quiet beside a log for programs: only what must be said."""

    def show(self, progress: Progress, accounts: Sequence[Account]) -> None:
        """Nothing."""

    def say(self, text: str) -> None:
        """Even so."""
        terminal.put(text)

    def close(self) -> None:
        """Nothing to leave."""


@dataclass(slots=True, kw_only=True)
class PlainScreen:
    """A line every ten seconds while something changes, else every minute; at once when an account is paused.

    `has_progress`: False with --quiet, where only what holds the batch up is said.
    """

    sandbox: bool = False
    has_progress: bool = True
    now: Callable[[], float] = time.time
    _began: float = field(init=False)
    _last_line: str = ""
    _last_at: float = -math.inf
    _last_news: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        self._began = self.now()

    def show(self, progress: Progress, accounts: Sequence[Account]) -> None:
        """Says it when it is time and something is new."""
        now = self.now()
        news = tuple(troubles(progress, accounts))
        known = set(map(_without_figures, self._last_news))
        for line in news:
            if _without_figures(line) not in known:
                self.say(line)
        self._last_news = news
        if not self.has_progress:
            return
        line = plain_line(progress, accounts, Elapsed(self._began, now))
        if line != self._last_line and not 0 <= now - self._last_at < PLAIN_EVERY:
            self._last_line, self._last_at = line, now
            self.say(line)
        elif not 0 <= now - self._last_at < UNCHANGED_EVERY:
            self._last_at = now
            self.say(f"{line}; nothing new for a minute, still at work")

    def say(self, text: str) -> None:
        """One line, with the time."""
        mark = "SANDBOX " if self.sandbox else ""
        terminal.put(f"{formatting.time_of_day(self.now())} {mark}{text}")

    def close(self) -> None:
        """Nothing to leave."""


def _without_figures(line: str) -> str:
    """The line without digits, to compare: a line whose figures alone have changed is no news."""
    return re.sub(r"\d", "", line)


class LiveScreen:
    """A panel that is drawn anew about four times a second."""

    def __init__(self, *, sandbox: bool) -> None:
        from rich.console import Console
        from rich.live import Live

        self._sandbox = sandbox
        self._began = time.time()
        self._console = Console(stderr=True, highlight=False)
        self._live: Live = Live(console=self._console, refresh_per_second=4, transient=True)
        self._live.start()

    def show(self, progress: Progress, accounts: Sequence[Account]) -> None:
        """Draws it."""
        lines = _lines(progress, accounts, Elapsed(self._began, time.time()))
        self._live.update(_panel(progress, lines, sandbox=self._sandbox))

    def say(self, text: str) -> None:
        """Above the panel."""
        for line in terminal.fitted(formatting.plain(text), terminal.width_of(sys.__stderr__ or sys.stderr)):
            self._console.print(line, markup=False, soft_wrap=True)

    def close(self) -> None:
        """Takes the panel away."""
        self._live.stop()


class Elapsed(NamedTuple):
    """When this command began, and now. Images that were stored before it began do not count for its pace."""

    began: float
    now: float


def plain_line(progress: Progress, accounts: Sequence[Account], span: Elapsed) -> str:
    """products: 3,201 of 12,000 images stored, 40 being made, 5 failed, 62 a minute, $128.04, about 2 h left."""
    parts = [f"{progress.images_stored:,} of {formatting.count(progress.images_total, 'image')} stored"]
    if way := sentences.under_way(progress):
        parts.append(way)
    if images_failing(progress):
        parts.append(f"of these not copied yet {not_copied(progress)}")
    parts += [f"{number:,} {state}" for state, number in _counts(progress) if state in NEEDS_A_PERSON]
    parts += [f"account {account.name} paused" for account in resting(progress, accounts, span.now)]
    return f"{progress.batch.name}: {', '.join([*parts, *_pace(progress, accounts, span)])}"


def _pace(progress: Progress, accounts: Sequence[Account], span: Elapsed) -> Iterator[str]:
    pace = images_per_second(progress, span.now, span.began)
    if pace is not None and images_to_come(progress):
        yield f"{pace * 60:,.0f} images a minute"
    yield _spent(progress)
    left = seconds_left(progress, accounts, span.now, span.began)
    if left:
        yield f"about {formatting.duration(left)} left"


def _spent(progress: Progress) -> str:
    flying = f", {formatting.money(progress.in_flight_money)} reserved" if progress.in_flight_money else ""
    return f"{spent(progress)}{of_budget_words(progress)} so far{flying}"


def _word(state: JobState, progress: Progress) -> str:
    """Waiting: for its turn. Under way: sent, and not stored yet."""
    if state is JobState.READY:
        return "paused" if is_paused(progress) else "waiting"
    return "under way" if state is JobState.WORKING else state.value


def _counts(progress: Progress) -> Iterator[tuple[JobState, int]]:
    for state in _SHOWN:
        if number := progress.jobs.get(state, 0):
            yield state, number


def _panel(progress: Progress, told: Iterable[tuple[list[str], str]], *, sandbox: bool) -> Group:
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    head = Table.grid(padding=(0, 2))
    stored = f"{progress.images_stored:,} of {formatting.count(progress.images_total, 'image')}"
    bar = ProgressBar(total=max(progress.images_total, 1), completed=progress.images_stored, width=40)
    name = Text(progress.batch.name, style="bold")
    head.add_row(Text("SANDBOX", style="black on yellow"), name, bar, stored) if sandbox else head.add_row(
        name, bar, stored
    )
    lines = [Text(formatting.plain("  " + "   ".join(part)), style=style) for part, style in told]
    return Group(head, *lines)


def _lines(progress: Progress, accounts: Sequence[Account], span: Elapsed) -> Iterator[tuple[list[str], str]]:
    yield [f"{_word(state, progress)} {number:,}" for state, number in _counts(progress)], ""
    if way := sentences.under_way(progress):
        yield [f"images: {way}"], ""
    yield [*_pace(progress, accounts, span)], "cyan"
    if images_failing(progress):
        yield [f"not copied yet: {not_copied(progress)}; they are tried on"], "yellow"
    for trouble in troubles(progress, accounts):
        yield [trouble], "yellow"
