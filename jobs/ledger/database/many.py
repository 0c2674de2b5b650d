"""One statement for many rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Update

from jobs.ledger.database.engine import is_alone

#: By statement: its text, the names of its parameters in their order, and the values of those that it brings itself.
_written: dict[Update, tuple[str, tuple[str, ...], Mapping[str, Any]]] = {}


def update_many(tx: Connection, statement: Update, rows: Sequence[Mapping[str, Any]]) -> None:
    """Runs an update, which is built once, for each row of parameters; no row does nothing.

    On SQLite SQLAlchemy would spend most of the time on each row's parameters, of which none has to be converted there.
    """
    if not rows:
        return
    if not is_alone(tx):
        tx.execute(statement, rows)
        return
    if statement not in _written:
        compiled = statement.compile(dialect=tx.dialect)
        brought = {name: bound.effective_value for name, bound in compiled.binds.items() if not bound.required}
        _written[statement] = str(compiled), tuple(compiled.positiontup or ()), brought
    text, names, own = _written[statement]
    tx.exec_driver_sql(text, [tuple([row[name] if name in row else own[name] for name in names]) for row in rows])
