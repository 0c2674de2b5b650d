"""How long provider tasks took, by account, model and resolution: learnt as they are found done, read by who polls."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, func, insert, select, update

from jobs import cadence
from jobs.ledger.schema import accounts, durations
from jobs.ledger.values.claimed import TaskKind

#: Part of an account's places after which what was known weighs half, where that is more than usual: tasks that run at
#: the same time end the quickest first, and these alone must not stand for all.
OF_PLACES = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A provider task that was found done."""

    account_id: int
    provider_model: str
    resolution: str
    span: cadence.Span  # its duration
    found: float  # seconds from its acceptance to our finding it
    told: bool  # whether the provider told its duration

    @property
    def key(self) -> tuple[int, str, str]:
        """Its row."""
        return self.account_id, self.provider_model, self.resolution


def keep(tx: Connection, ended: Sequence[Ended], places: Mapping[int, int]) -> None:
    """Learns from tasks that were found done; the caller holds their accounts' rows. `places`: by account."""
    by_key: dict[tuple[int, str, str], list[Ended]] = defaultdict(list)
    for each in ended:
        by_key[each.key].append(each)
    for key, group in sorted(by_key.items()):
        named = dict(zip(("of_account", "of_model", "of_resolution"), key, strict=True))
        row = tx.execute(_KNOWN, named).first()
        half_life = max(cadence.HALF_LIFE, OF_PLACES * places[key[0]])
        tx.execute(_MORE if row else _FIRST, {**named, **_news(row, group, half_life)})


def _news(row: Any, group: Sequence[Ended], half_life: float) -> dict[str, Any]:
    known = cadence.from_text(row.learnt) if row else cadence.Durations()
    known = cadence.learn(known, [each.span for each in group], half_life=half_life, told=group[-1].told)
    late = sum(max(0.0, each.found - each.span.middle) for each in group)
    return {"more": len(group), "late": late, "text": cadence.to_text(known)}


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


def known(tx: Connection) -> dict[TaskKind, cadence.Durations]:
    """What is known of each kind of task of the configured accounts."""
    joined = durations.join(accounts, accounts.c.id == durations.c.account_id)
    named = (accounts.c.name, durations.c.provider_model, durations.c.resolution, durations.c.learnt)
    rows = tx.execute(select(*named).select_from(joined).where(accounts.c.configured))
    return {
        TaskKind(account=row.name, provider_model=row.provider_model, resolution=row.resolution): cadence.from_text(
            row.learnt
        )
        for row in rows
    }


def found(tx: Connection) -> dict[int, tuple[int, float]]:
    """By account: provider tasks found done, and the seconds of lateness in all."""
    summed = select(durations.c.account_id, func.sum(durations.c.found), func.sum(durations.c.lateness))
    return {row[0]: (int(row[1]), float(row[2])) for row in tx.execute(summed.group_by(durations.c.account_id))}
