"""What the log has told of the state of things: one row a condition, changed by one process only, which tells of it.

What holds now is found out elsewhere (jobs/results/conditions.py). Two processes may find the same change at the same
time. Each row is changed where it still is as the finder saw it, so one of them changes it and the other tells nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, delete, literal_column, select, update

from jobs.ledger.accounts import outbox
from jobs.ledger.accounts.condition_values import Condition, ConditionChange
from jobs.ledger.accounts.outbox_values import NewMessage
from jobs.ledger.database.schema import batches, conditions, jobs
from jobs.ledger.database.statements import INSERT, has_row
from jobs.states import GOING_ON

#: The one row that is no condition: it holds the time when a process last looked.
_LOOK = "look"


def take_turn(tx: Connection, now: float, every: float) -> bool:
    """Whether it is this process's turn to look: nobody has for `every` seconds. A clock may have been set back."""
    due = (conditions.c.since <= now - every) | (conditions.c.since > now + every)
    of_look = (conditions.c.name == _LOOK, conditions.c.subject == "")
    if tx.execute(update(conditions).where(*of_look, due).values(since=now)).rowcount:
        return True
    first = {"name": _LOOK, "subject": "", "state": "", "since": now, "detail": "{}"}
    return _put_in(tx, first)


def told(tx: Connection) -> list[Condition]:
    """What has been told and still holds, batches that have ended left out."""
    wanted = select(conditions).where(conditions.c.name != _LOOK, ~_HAS_ENDED)
    return [_as_condition(row) for row in tx.execute(wanted)]


FINISHED = "finished"
#: Of a batch of which nothing more is to be told, unless rows of it go on. "finished" names the schedule's time that it
#: has finished for, if there is one.
_HAS_ENDED = conditions.c.state.startswith(FINISHED) | (conditions.c.state == "cancelled")


def told_of_batches(tx: Connection, names: Sequence[str]) -> list[Condition]:
    """The same of these batches, ended or not."""
    wanted = select(conditions).where(conditions.c.name == "batch", conditions.c.subject.in_(names))
    return [_as_condition(row) for row in tx.execute(wanted)]


def _as_condition(row: Any) -> Condition:
    return Condition(
        name=row.name, subject=row.subject, state=row.state, since=row.since, detail=json.loads(row.detail)
    )


def batches_to_tell_of(tx: Connection) -> list[str]:
    """Batches that go on, and those whose end, or whose very name, has not been told."""
    on_record = conditions.c.name.is_not(None)
    joined = batches.outerjoin(
        conditions, (conditions.c.name == literal_column("'batch'")) & (conditions.c.subject == batches.c.name)
    )
    states: list[Any] = [literal_column("'ready'"), literal_column("'working'")]
    goes_on = has_row(select(jobs.c.id).where(jobs.c.batch_id == batches.c.id, jobs.c.state.in_(states)))
    ended = on_record & _HAS_ENDED
    return list(
        tx.execute(select(batches.c.name).select_from(joined).where(~ended | goes_on).order_by(batches.c.id)).scalars()
    )


#: A batch whose end was told, and of which rows are to be made again.
AGAIN = "again"


def goes_on_again(tx: Connection, batch_id: int) -> None:
    """Rows of a batch are to be made again: its next end is told, although nobody looks at it meanwhile."""
    name = select(batches.c.name).where(batches.c.id == batch_id).scalar_subquery()
    told_finished = (
        conditions.c.name == "batch",
        conditions.c.subject == name,
        conditions.c.state.startswith(FINISHED),
    )
    has_rows = select(jobs.c.id).where(jobs.c.batch_id == batch_id, jobs.c.state.in_(GOING_ON)).exists()
    tx.execute(update(conditions).where(*told_finished, has_rows).values(state=AGAIN))


def change(
    tx: Connection,
    changes: Sequence[ConditionChange],
    now: float,
    messages_of: Callable[[ConditionChange], Sequence[NewMessage]],
) -> list[ConditionChange]:
    """Makes these changes where nobody else has, in one order for everybody; returns those that were made here.

    What is to be told of them is put into the outbox in this transaction, so that a crash tells it once all the same.
    """
    made = [one for one in sorted(changes, key=lambda one: (one.name, one.subject)) if _change(tx, one, now)]
    for one in made:
        outbox.put(tx, messages_of(one), now)
    return made


def _change(tx: Connection, one: ConditionChange, now: float) -> bool:
    if one.after is None:
        return bool(tx.execute(_END, _was(one)).rowcount)
    values = {"state": one.after.state, "since": now, "detail": json.dumps(dict(one.after.detail))}
    if one.before is None:
        return _put_in(tx, {"name": one.name, "subject": one.subject, **values})
    renamed = {"new_state": values["state"], "new_since": now, "new_detail": values["detail"]}
    return bool(tx.execute(_CHANGE, {**_was(one), **renamed}).rowcount)


def _put_in(tx: Connection, row: Mapping[str, Any]) -> bool:
    """Whether the row was not there yet."""
    fresh = INSERT[tx.dialect.name](conditions).values(**row).on_conflict_do_nothing()
    return tx.execute(fresh.returning(conditions.c.name)).first() is not None


def _was(one: ConditionChange) -> dict[str, Any]:
    return {"of_name": one.name, "of_subject": one.subject, "was": one.before.state if one.before else ""}


_AS_IT_WAS = (
    conditions.c.name == bindparam("of_name"),
    conditions.c.subject == bindparam("of_subject"),
    conditions.c.state == bindparam("was"),
)
_END = delete(conditions).where(*_AS_IT_WAS)
_CHANGE = (
    update(conditions)
    .where(*_AS_IT_WAS)
    .values(state=bindparam("new_state"), since=bindparam("new_since"), detail=bindparam("new_detail"))
)
