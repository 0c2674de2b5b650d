"""How long provider tasks took, by account, model and resolution: learnt as they are found done, read by who polls."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, func, insert, literal_column, select, update

from jobs.ledger.database.schema import accounts, attempts, durations
from jobs.ledger.database.statements import among, fetch, fetch_first, run
from jobs.policy import poll_schedule
from jobs.states import IN_FLIGHT

#: Part of an account's places after which what was known weighs half, where that is more than usual: tasks that run at
#: the same time end the quickest first, and these alone must not stand for all.
OF_PLACES = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedTask:
    """A provider task that was found done."""

    account_id: int
    provider_model: str
    resolution: str
    span: poll_schedule.Span  # its duration
    found: float  # seconds from its acceptance to our finding it
    told: bool  # whether the provider told its duration

    @property
    def key(self) -> tuple[int, str, str]:
        """Its row."""
        return self.account_id, self.provider_model, self.resolution


def keep(tx: Connection, ended: Sequence[EndedTask], places: Mapping[int, int]) -> None:
    """Learns from tasks that were found done; the caller holds their accounts' rows. `places`: by account."""
    by_key: dict[tuple[int, str, str], list[EndedTask]] = defaultdict(list)
    for each in ended:
        by_key[each.key].append(each)
    for key, group in sorted(by_key.items()):
        named = dict(zip(("of_account", "of_model", "of_resolution"), key, strict=True))
        row = fetch_first(tx, _KNOWN, named)
        half_life = max(poll_schedule.HALF_LIFE, OF_PLACES * places[key[0]])
        run(tx, _MORE if row else _FIRST, {**named, **_news(row, group, half_life)})


def _news(row: Any, group: Sequence[EndedTask], half_life: float) -> dict[str, Any]:
    known = poll_schedule.from_text(row.learnt) if row else poll_schedule.Durations()
    known = poll_schedule.learn(known, [each.span for each in group], half_life=half_life, told=group[-1].told)
    late = sum(max(0.0, each.found - each.span.middle) for each in group)
    return {"more": len(group), "late": late, "text": poll_schedule.to_text(known)}


_KNOWN = select(durations.c.learnt).where(
    durations.c.account_id == bindparam("of_account"),
    durations.c.provider_model == bindparam("of_model"),
    durations.c.resolution == bindparam("of_resolution"),
)
_FIRST = insert(durations).values(
    account_id=bindparam("of_account"),
    provider_model=bindparam("of_model"),
    resolution=bindparam("of_resolution"),
    found=bindparam("more"),
    lateness=bindparam("late"),
    learnt=bindparam("text"),
)
_MORE = (
    update(durations)
    .where(
        durations.c.account_id == bindparam("of_account"),
        durations.c.provider_model == bindparam("of_model"),
        durations.c.resolution == bindparam("of_resolution"),
    )
    .values(
        found=durations.c.found + bindparam("more"),
        lateness=durations.c.lateness + bindparam("late"),
        learnt=bindparam("text"),
    )
)


def known(tx: Connection) -> dict[TaskKind, poll_schedule.Durations]:
    """What is known of each kind of task of the configured accounts; of a new one by those that run, too."""
    learnt = {row[:3]: poll_schedule.from_text(row.learnt) for row in fetch(tx, _LEARNT)}
    young = {key[0] for key, known in learnt.items() if poll_schedule.is_young(known)}
    ran = _ran(tx, young) if young else {}
    return {
        TaskKind(account=key[0], provider_model=key[1], resolution=key[2]): poll_schedule.with_running(known, ran[key])
        if key in ran and poll_schedule.is_young(known)
        else known
        for key, known in learnt.items()
    }


_LEARNT = (
    select(accounts.c.name, durations.c.provider_model, durations.c.resolution, durations.c.learnt)
    .select_from(durations.join(accounts, accounts.c.id == durations.c.account_id))
    .where(accounts.c.configured)
)


def _ran(tx: Connection, names: Iterable[str]) -> dict[tuple[Any, ...], list[float]]:
    """By account, model and resolution: the ages at which tasks that run were last seen running."""
    ran: dict[tuple[Any, ...], list[float]] = defaultdict(list)
    for row in fetch(tx, _RAN, {"of_accounts": list(names)}):
        ran[row.name, row.provider_model, row.resolution].append(row.ran)
    return ran


_RAN = (
    select(
        accounts.c.name,
        attempts.c.provider_model,
        func.coalesce(attempts.c.asked_resolution, "").label("resolution"),
        (attempts.c.ran_at - attempts.c.accepted_at).label("ran"),
    )
    .select_from(attempts.join(accounts, accounts.c.id == attempts.c.account_id))
    .where(
        among(accounts.c.name, "of_accounts"),
        # Literal, not bound: only then can the planner use the partial index.
        attempts.c.state.in_([literal_column(f"'{state.value}'") for state in IN_FLIGHT]),
        attempts.c.ran_at > attempts.c.accepted_at,
    )
)


def found(tx: Connection) -> dict[int, tuple[int, float]]:
    """By account: provider tasks found done, and the seconds of lateness in all."""
    summed = select(durations.c.account_id, func.sum(durations.c.found), func.sum(durations.c.lateness))
    return {row[0]: (int(row[1]), float(row[2])) for row in tx.execute(summed.group_by(durations.c.account_id))}


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskKind:
    """Provider tasks that take alike long."""

    account: str
    provider_model: str
    resolution: str  # as the request asks for it; empty: it does not
