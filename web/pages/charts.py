"""Small charts of pages: a line over time, as SVG."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from jobs.formatting import day_and_time, money, time_of_day
from jobs.results.charts import AccountHistory, History, points

#: What they are drawn in.
WIDTH, HEIGHT = 300, 80
#: Points that make a line.
LEAST = 2
#: How many times as high as the highest of a line its bound may be to be drawn.
NEAR = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A line over time, maybe with another that bounds it, and a third of what went wrong."""

    title: str
    newest: str
    line: str  # SVG points
    top: str  # what the upper edge stands for
    begins: str
    ends: str
    bound: str = ""  # SVG points
    trouble: str = ""  # SVG points

    @property
    def area(self) -> str:
        """The points around what is below the line."""
        return f"0,{HEIGHT} {self.line} {WIDTH},{HEIGHT}"


def charts_of_batch(history: History | None, *, going_on: bool) -> Iterator[Chart]:
    """Images a minute, and what they cost."""
    if history is None or len(history.images) < LEAST:
        return
    total = history.in_all()
    paces = _over(history.a_minute(), going_on=going_on)
    times = day_and_time(history.start), time_of_day(history.end)
    yield _chart("images a minute", times, paces)
    if total[-1]:
        yield Chart(
            title="cost of stored images",
            newest=money(total[-1]),
            top=money(total[-1]),
            line=points(total, WIDTH, HEIGHT),
            begins=times[0],
            ends=times[1],
        )


def charts_of_account(name: str, history: AccountHistory | None, now: float) -> Iterator[Chart]:
    """Submits a minute beside what is allowed and what was refused, and provider tasks beside their places."""
    if history is None or len(history.submits) < LEAST:
        return
    going_on = now < history.end
    times = day_and_time(history.start), time_of_day(min(now, history.end))
    refused, words = sum(history.refused), f"{name}: submits a minute"
    yield _chart(
        f"{words}; {refused:,} refused" if refused else words,
        times,
        _over(history.a_minute(), going_on=going_on),
        bound=_over(history.allowed, going_on=going_on),
        trouble=_over([each * 60 / history.width for each in history.refused], going_on=going_on) if refused else (),
    )
    yield _chart(f"{name}: in flight", times, history.in_flight, bound=history.places)


def _over(line: Sequence[float], *, going_on: bool) -> Sequence[float]:
    """Without the newest stretch while it is not over: it would look as if the pace fell."""
    return line[:-1] if going_on and len(line) > LEAST else line


def _chart(
    title: str,
    times: tuple[str, str],
    line: Sequence[float],
    *,
    bound: Sequence[float] = (),
    trouble: Sequence[float] = (),
) -> Chart:
    """`bound`: is drawn where it is not far above the line, which would lie flat below it."""
    highest = max(line)
    near = [min(each, NEAR * highest) for each in bound] if bound and min(bound) <= NEAR * highest else []
    top = max([highest, *near])
    return Chart(
        title=title,
        newest=f"{line[-1]:,.0f}",
        top=f"{top:,.0f}",
        line=points(line, WIDTH, HEIGHT, top),
        begins=times[0],
        ends=times[1],
        bound=points(near, WIDTH, HEIGHT, top) if near else "",
        trouble=points(trouble, WIDTH, HEIGHT, top) if trouble else "",
    )
