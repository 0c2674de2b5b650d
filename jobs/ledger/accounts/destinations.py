"""What is wrong with destinations, said by workers and heard by all; and what waits for each, counted by deadline.

A statement is its process's own, replaced as a whole and forgotten by itself, so that a dead process holds nothing up.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from sqlalchemy import (
    BindParameter,
    Connection,
    bindparam,
    case,
    delete,
    func,
    insert,
    literal,
    literal_column,
    or_,
    select,
    union_all,
    update,
)

from jobs.ledger.accounts.worker_values import DestinationTrouble
from jobs.ledger.database.schema import attempts, batches, destination_troubles, images
from jobs.ledger.database.statements import among, fetch
from jobs.policy.copy_failures import PERSON_CODES
from jobs.policy.copy_headroom import LONG_LOOK, SHORT_LOOK, Backlog
from jobs.states import IN_FLIGHT, TroubleKind
from providers.types import clean

#: Seconds after which a statement that nobody repeats is forgotten.
SAID_FOR = 30.0
#: Seconds ahead at which waiting images are counted: half as much again each time, from one second to a month.
LADDER = tuple(1.5**step for step in range(37))
#: A copy that ended so says nothing about its bucket's pace: the link is dead already, or no time will help.
NO_MATTER_OF_PACE = ("link_dead", *PERSON_CODES)
#: The codes of a copy that a destination refused begin so.
STORE_CODES = ("bucket_%", "disk_%")


def say(tx: Connection, holder: str, troubles: Sequence[DestinationTrouble], now: float) -> None:
    """Replaces all that this process has said, and forgets what nobody repeats."""
    gone = (destination_troubles.c.holder == holder) | (destination_troubles.c.until <= now)
    tx.execute(delete(destination_troubles).where(gone))
    if troubles:
        tx.execute(insert(destination_troubles), [_row(holder, trouble, now) for trouble in troubles])


def _row(holder: str, trouble: DestinationTrouble, now: float) -> dict[str, Any]:
    what = {"kind": trouble.kind.value, "code": clean(trouble.code), "message": clean(trouble.message)}
    return {"dest": trouble.dest, "holder": holder, "since": trouble.since, "until": now + SAID_FOR, **what}


def heard(tx: Connection, now: float, dest: str | None = None) -> tuple[DestinationTrouble, ...]:
    """What is wrong now; with `dest`, there. Of one kind the oldest, one a destination."""
    live = select(destination_troubles).where(destination_troubles.c.until > now)
    live = live if dest is None else live.where(destination_troubles.c.dest == dest)
    found: dict[tuple[str, str], DestinationTrouble] = {}
    for row in tx.execute(live.order_by(destination_troubles.c.since, destination_troubles.c.holder)):
        found.setdefault((row.dest, row.kind), _as_trouble(row))
    return tuple(found.values())


def _as_trouble(row: Any) -> DestinationTrouble:
    kind = TroubleKind(row.kind)
    return DestinationTrouble(
        dest=row.dest, kind=kind, since=row.since, code=row.code, message=row.message, said_by=row.holder
    )


#: Destinations for which nothing new is sent; `moment` is bound by who asks.
HELD_UP = select(destination_troubles.c.dest).where(destination_troubles.c.until > bindparam("moment"))


def hasten(tx: Connection, dest: str, now: float) -> None:
    """A destination takes writes again: what it refused is tried now, and not when its wait ends."""
    there = select(batches.c.id).where(batches.c.dest == dest)
    refused = or_(*(images.c.error_code.like(code) for code in STORE_CODES))
    waits = (images.c.state == literal_column("'generated'"), images.c.next_copy_at > now)
    tx.execute(update(images).where(*waits, images.c.batch_id.in_(there), refused).values(next_copy_at=now))


# -- what waits ----------------------------------------------------------------------------------------------------


def backlogs(tx: Connection, now: float) -> dict[str, Backlog]:
    """What waits for each destination. Reads one index over the images that wait, and of those stored the newest."""
    waiting = fetch(tx, _WAITING, {f"edge_{step}": now + seconds for step, seconds in enumerate((0.0, *LADDER))})
    dests = dict(tx.execute(select(batches.c.id, batches.c.dest)).all()) if waiting else {}
    ids = list({row.batch_id for row in waiting})
    stored = _stored(tx, ids, now)
    coming = _coming(tx, ids)
    found: dict[str, dict[int, list[tuple[int, float]]]] = defaultdict(lambda: defaultdict(list))
    for row in waiting:
        found[dests[row.batch_id]][row.step].append((row.number, row.last))
    mine = {dest: [number for number in ids if dests[number] == dest] for dest in found}
    return {
        dest: Backlog(
            deaths=_deaths(steps),
            coming=sum(coming[number] for number in mine[dest]),
            stored_short=sum(stored[number][0] for number in mine[dest]),
            stored_long=sum(stored[number][1] for number in mine[dest]),
        )
        for dest, steps in found.items()
    }


def _deaths(steps: dict[int, list[tuple[int, float]]]) -> tuple[tuple[int, float], ...]:
    deaths, k = [], 0
    for step in sorted(steps):
        k += sum(number for number, _ in steps[step])
        deaths.append((k, max(last for _, last in steps[step])))
    return tuple(deaths)


def _quoted(code: str) -> Any:
    """Literal: only then is the index enough."""
    return literal_column(f"'{code}'")


def _waiting() -> Any:
    edges: list[BindParameter[Any]] = [bindparam(f"edge_{step}") for step in range(len(LADDER) + 1)]
    alive = (
        images.c.state == literal_column("'generated'"),
        or_(images.c.error_code.is_(None), images.c.error_code.not_in(map(_quoted, NO_MATTER_OF_PACE))),
    )
    steps = [
        select(
            literal(step).label("step"),
            images.c.batch_id,
            func.count().label("number"),
            func.max(images.c.expires_at).label("last"),
        )
        .where(*alive, images.c.expires_at > since, images.c.expires_at <= until)
        .group_by(images.c.batch_id)
        for step, (since, until) in enumerate(pairwise(edges))
    ]
    return union_all(*steps)


_WAITING = _waiting()  # built once: to build it costs more than to run it


def _stored(tx: Connection, batch_ids: Sequence[int], now: float) -> dict[int, tuple[int, int]]:
    counted: dict[int, tuple[int, int]] = defaultdict(lambda: (0, 0))
    if batch_ids:
        values = {"these": batch_ids, "long": now - LONG_LOOK, "short": now - SHORT_LOOK}
        for row in fetch(tx, _STORED, values):
            counted[row.batch_id] = int(row.short or 0), int(row.long)
    return counted


_STORED = (
    select(
        images.c.batch_id,
        func.count().label("long"),
        func.sum(case((images.c.stored_at > bindparam("short"), 1), else_=0)).label("short"),
    )
    .where(among(images.c.batch_id, "these"), images.c.stored_at > bindparam("long"))
    .group_by(images.c.batch_id)
)


def _coming(tx: Connection, batch_ids: Sequence[int]) -> Counter[int]:
    if not batch_ids:
        return Counter()
    return Counter({row.batch_id: int(row.number) for row in fetch(tx, _COMING, {"these": batch_ids})})


_COMING = (
    select(attempts.c.batch_id, func.sum(attempts.c.n).label("number"))
    .where(
        attempts.c.state.in_([literal_column(f"'{state.value}'") for state in IN_FLIGHT]),
        among(attempts.c.batch_id, "these"),
    )
    .group_by(attempts.c.batch_id)
)
