"""Statements that PostgreSQL reads and plans once in a session, and runs by their names from then on.

Behind a transaction pooler, transactions of one connection run in sessions that others use, too: a statement by that
name may be missing there, or be another's. So a connection marks its session, if it is the one that greeted it, and
each transaction asks for the mark when it begins. Only where it finds its own are statements prepared, or run by name;
elsewhere all runs as it does without.
"""

from __future__ import annotations

import secrets
import sys
from typing import Any

from sqlalchemy import Connection, Engine, ExceptionContext, event

from jobs.ledger.database.statements import run_text

#: SQLSTATEs of a statement that is missing, is there already, or does not fit its tables any more.
MISPREPARED = frozenset({"26000", "42P05", "0A000"})
#: Of psycopg: statements are prepared where it is asked for, and never by how often they ran.
_WHEN_ASKED = sys.maxsize
#: Statements that a session keeps: more than there are with all types of their parameters.
_MOST_KEPT = 300
#: In what SQLAlchemy remembers of a connection: its mark, and whether plans are made for all values just now.
_MARK, _FOR_ALL_VALUES = "lightfast_mark", "lightfast_for_all_values"
#: Marks are a setting of the session, under a name that is nobody else's.
_SETTING = "lightfast.connection"

#: A plan is made at a statement's first run, for all values, and kept. Without these ways to read, which fit small
#: tables, it stays right when they grow.
_ONE_PLAN = (
    "SET LOCAL plan_cache_mode = force_generic_plan; SET LOCAL enable_seqscan = off; "
    "SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off"
)
_AS_USUAL = (
    "SET LOCAL plan_cache_mode = auto; SET LOCAL enable_seqscan = on; "
    "SET LOCAL enable_hashjoin = on; SET LOCAL enable_mergejoin = on"
)


class Preparing:
    """Whether an engine's connections prepare statements; off for good once one was not what it should be."""

    def __init__(self) -> None:
        self._is_off = False

    def begin(self, connection: Connection, begin_with: str) -> None:
        """Begins a transaction that may be planned once (`Database.planned_once`); prepares it where that is safe."""
        driver: Any = connection.connection.driver_connection
        if self._is_off or (mark := _mark(connection, driver)) is None:
            begin_unprepared(connection, begin_with)
            return
        found = run_text(connection, f"{begin_with}; SELECT current_setting('{_SETTING}', true); {_ONE_PLAN}")
        driver.prepare_threshold = _WHEN_ASKED if found == mark else None
        connection.info[_FOR_ALL_VALUES] = True

    def watch(self, engine: Engine) -> None:
        """Turns itself off where a statement of this engine was not prepared as it should be."""

        @event.listens_for(engine, "handle_error")
        def _judge(context: ExceptionContext) -> None:
            self._is_off |= getattr(context.original_exception, "sqlstate", None) in MISPREPARED


def begin_unprepared(connection: Connection, begin_with: str) -> None:
    """Begins any other transaction: PostgreSQL plans each run for its values, for which a partial index may do."""
    driver: Any = connection.connection.driver_connection
    driver.prepare_threshold = None
    run_text(connection, begin_with)


def _mark(connection: Connection, driver: Any) -> str | None:
    """What marks the session of a connection; None: it has none, since it is not the one that greeted it."""
    if _MARK not in connection.info:
        connection.info[_MARK] = None
        if run_text(connection, "SELECT pg_backend_pid()") == driver.info.backend_pid:
            driver.prepared_max = _MOST_KEPT
            connection.info[_MARK] = secrets.token_hex(16)
            run_text(connection, f"SELECT set_config('{_SETTING}', '{connection.info[_MARK]}', false)")
    mark: str | None = connection.info[_MARK]
    return mark


def plan_others_as_usual(engine: Engine) -> None:
    """Has statements that SQLAlchemy runs itself planned as in any other transaction: they may find rows in any way.

    They are rare. From the first one on, the rest of its transaction is planned as usual.
    """

    @event.listens_for(engine, "before_cursor_execute")
    def _plan(connection: Connection, _cursor: Any, _text: str, _values: Any, context: Any, _many: bool) -> None:  # noqa: FBT001  SQLAlchemy's
        if context is not None and connection.info.pop(_FOR_ALL_VALUES, False):
            run_text(connection, _AS_USUAL)
