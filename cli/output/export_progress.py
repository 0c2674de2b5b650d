"""How far an export is: at a terminal a line that grows, elsewhere a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from cli.output import terminal
from jobs.formatting import count, duration, size, time_of_day

#: Seconds between two lines at a terminal, and elsewhere.
LIVE_EVERY, PLAIN_EVERY = 0.25, 30.0
#: Seconds after which the pace says something.
_PACED = 2.0


class ExportProgress:
    """Hears of every image, and shows few of them."""

    def __init__(self, *, quiet: bool, now: Callable[[], float] = time.time) -> None:
        self._now, self._quiet = now, quiet
        self._is_live = sys.stderr.isatty()
        self._stage = ""
        self._began = self._shown = self._first = 0.0

    def __call__(self, stage: str, through: int, of: int, size_through: int) -> None:
        """The stage, images that are through, of how many (0: not known), and their bytes."""
        if self._quiet:
            return
        now = self._now()
        if stage != self._stage:
            self._stage, self._began, self._shown, self._first = stage, now, now, through
        if now - self._shown < (LIVE_EVERY if self._is_live else PLAIN_EVERY):
            return
        self._shown = now
        text = f"{through:,} of {count(of, 'image')} {stage}" if of else f"{count(through, 'image')} {stage}"
        parts = [text, *([size(size_through)] if size_through else []), *self._left(now, through, of)]
        if self._is_live:
            terminal.tally(", ".join(parts))
        else:
            terminal.put(f"{time_of_day(now)} {', '.join(parts)}")

    def _left(self, now: float, through: int, of: int) -> list[str]:
        done, took = through - self._first, now - self._began
        return [f"about {duration(took / done * (of - through))} left"] if of and done > 0 and took > _PACED else []
