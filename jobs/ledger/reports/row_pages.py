"""A batch's rows, a page at a time, of a million as soon as of a thousand: each page looks at a bounded number of rows.

No index serves every filter, and one more would cost each row that is recorded. So a page may hold fewer rows than
asked for, or none, and yet name a next one: it has looked at `WINDOW` rows then, and the next page goes on behind them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, func, literal, literal_column, or_, select

from jobs.ledger.database.schema import jobs
from jobs.ledger.reports.results import of_jobs
from jobs.ledger.reports.values import RowFilter, RowPage
from jobs.states import ENDED_BADLY, JobState
from providers.registry import PROVIDERS

#: Rows that one page looks at.
WINDOW = 20_000
#: Rows of some states that are sorted for each page. Where there are more, `WINDOW` of all rows are looked at.
MOST_SORTED = 10_000
#: The states in which a row's error code is what became of it.
_WITH_CODE = (*ENDED_BADLY, JobState.HELD, JobState.INVALID, JobState.SKIPPED)
#: Characters that sort late in one language or another, and the one that Unicode lets sort behind all others.
_LATE, _LAST = ("z", "Z", "9", "~", "é", "я", "漢", "😀"), "\uffff"

_Place = Any  # id and position, or id and key


def page(tx: Connection, batch_id: int, wish: RowFilter, after: str, most: int) -> RowPage:
    """The next page behind `after`: of the rows in the newest manifest, in its order, or by their keys (`prefix`).

    Raises:
        ValueError: `after` is not what a page before has named.
    """
    if wish.prefix:
        return _by_key(tx, batch_id, wish, after, most)
    behind = _position(after) if after else -1
    if wish.states == (JobState.READY,) and not wish.error:
        return _page(tx, _ready(tx, batch_id, behind, most), most)
    if (wish.states or wish.error) and (few := _few(tx, batch_id, wish)) is not None:
        return _page(tx, [each for each in few if each.position > behind], most)
    return _by_position(tx, batch_id, wish, behind, most)


def _position(after: str) -> int:
    if not (after.isascii() and after.isdigit() and len(after) <= _DIGITS):
        raise ValueError(after)
    return int(after)


#: Of a position, which is kept in 32 bits.
_DIGITS = 9


def _page(tx: Connection, places: Sequence[_Place], most: int, else_next: str | None = None) -> RowPage:
    """Of the rows at these places as many as a page holds. `else_next`: where the next page begins if all fit."""
    ids = [place.id for place in places[:most]]
    is_more = len(places) > most
    return RowPage(rows=of_jobs(tx, ids), next=str(places[most - 1][1]) if is_more else else_next)


def _wanted(source: Any, wish: RowFilter) -> list[ColumnElement[bool]]:
    wanted: list[ColumnElement[bool]] = []
    if states := _states(wish):
        wanted.append(source.c.state.in_([state.value for state in states]))
    if wish.error:
        code = source.c.error_code == wish.error
        has_none = and_(source.c.state == JobState.HELD.value, source.c.error_code.is_(None))
        wanted.append(or_(code, has_none) if wish.is_held_code else code)
    return wanted


def _states(wish: RowFilter) -> tuple[JobState, ...]:
    return wish.states or (_WITH_CODE if wish.error else ())


def _ready(tx: Connection, batch_id: int, behind: int, most: int) -> list[_Place]:
    """Provider by provider, as their index has them."""
    mine = (jobs.c.batch_id == batch_id, jobs.c.state == literal_column("'ready'"), jobs.c.position > behind)
    found: list[_Place] = []
    for provider in PROVIDERS:
        wanted = select(jobs.c.id, jobs.c.position).where(*mine, jobs.c.provider == provider)
        found += tx.execute(wanted.order_by(jobs.c.position).limit(most + 1))
    return sorted(found, key=lambda place: place.position)


def _few(tx: Connection, batch_id: int, wish: RowFilter) -> list[_Place] | None:
    """All that are wanted, in the manifest's order; None: there are too many in these states to sort them."""
    states = [state.value for state in _states(wish)]
    mine = (jobs.c.batch_id == batch_id, jobs.c.state.in_(states))
    some = select(jobs.c.state).where(*mine).limit(MOST_SORTED + 1).subquery()
    if tx.execute(select(func.count()).select_from(some)).scalar_one() > MOST_SORTED:
        return None
    found = tx.execute(select(jobs.c.id, jobs.c.position).where(*mine, *_wanted(jobs, wish)))
    # Not asked of the database: SQLite would look through the index of positions for it, and so at every row.
    return sorted((place for place in found if place.position is not None), key=lambda place: place.position)


def _by_position(tx: Connection, batch_id: int, wish: RowFilter, behind: int, most: int) -> RowPage:
    mine = (jobs.c.batch_id == batch_id, jobs.c.position > behind)
    seen = select(jobs.c.id, jobs.c.position, jobs.c.state, jobs.c.error_code).where(*mine)
    seen_rows = seen.order_by(jobs.c.position).limit(WINDOW).subquery()
    wanted = select(seen_rows.c.id, seen_rows.c.position).where(*_wanted(seen_rows, wish))
    places = tx.execute(wanted.order_by(seen_rows.c.position).limit(most + 1)).all()
    last = select(jobs.c.position).where(*mine).order_by(jobs.c.position).offset(WINDOW - 1).limit(1)
    goes_on = tx.execute(last).scalar() if len(places) <= most else None
    return _page(tx, places, most, None if goes_on is None else str(goes_on))


# -- by key --------------------------------------------------------------------------------------------------------


def _by_key(tx: Connection, batch_id: int, wish: RowFilter, after: str, most: int) -> RowPage:
    mine = [jobs.c.batch_id == batch_id, jobs.c.key >= wish.prefix, *_until(tx, wish.prefix)]
    mine += [jobs.c.key > after] if after else []
    columns = (jobs.c.id, jobs.c.key, jobs.c.position, jobs.c.state, jobs.c.error_code)
    seen = select(*columns).where(*mine).order_by(jobs.c.key).limit(WINDOW).subquery()
    begins = func.substr(seen.c.key, 1, len(wish.prefix)) == wish.prefix
    wanted = select(seen.c.id, seen.c.key).where(begins, seen.c.position.is_not(None), *_wanted(seen, wish))
    places = tx.execute(wanted.order_by(seen.c.key).limit(most + 1)).all()
    last = select(jobs.c.key).where(*mine).order_by(jobs.c.key).offset(WINDOW - 1).limit(1)
    return _page(tx, places, most, tx.execute(last).scalar() if len(places) <= most else None)


def _until(tx: Connection, prefix: str) -> Iterable[ColumnElement[bool]]:
    """Where the keys that begin so end, as the database sorts: by code points, or as a language does.

    A language's order is believed only where it sorts what begins so before the bound. Without a bound all keys behind
    are looked at, page by page.
    """
    by_code_points = tx.dialect.name == "sqlite" or not tx.execute(select(literal("a") < literal("B"))).scalar()
    if by_code_points:
        return [jobs.c.key < bound] if (bound := _behind(prefix)) else []
    bound = prefix + _LAST
    holds = select(*(literal(prefix + late) < literal(bound) for late in _LATE))
    return [jobs.c.key < bound] if all(tx.execute(holds).one()) else []


def _behind(prefix: str) -> str | None:
    """The first text behind all that begin so, by code points; None: there is none."""
    for length in range(len(prefix), 0, -1):
        last = ord(prefix[length - 1])
        if last < _HIGHEST:
            return prefix[: length - 1] + chr(_AFTER_SURROGATES if last == _BEFORE_SURROGATES else last + 1)
    return None


_HIGHEST, _BEFORE_SURROGATES, _AFTER_SURROGATES = 0x10FFFF, 0xD7FF, 0xE000
