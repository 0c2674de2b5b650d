"""Statements on the driver's own cursor give what SQLAlchemy would give."""

from __future__ import annotations

import contextlib
import gc
import weakref

import pytest
from sqlalchemy import bindparam, event, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from jobs.ledger import open_ledger
from jobs.ledger.database.schema import batches, events, jobs
from jobs.ledger.database.statements import among, fetch, fetch_first, fetch_value, run, run_each

_ALL = select(batches.c.id, batches.c.dest, batches.c.sandbox).order_by(batches.c.id)
_AT = _ALL.where(among(batches.c.dest, "dests"))
_ELSEWHERE = _ALL.where(~among(batches.c.dest, "dests"))
_ACTIVE = select(func.count()).where(batches.c.state.in_(["active", "paused"]))
_RENAME = update(batches).where(batches.c.id == bindparam("of_batch")).values(name=bindparam("called"))


def _filled(tx, folder):
    row = {"path": "{key}", "columns": "[]", "source": "", "state": "active", "created_at": 1.0}
    dests = (f"{folder}/out", "s3://shop/a b", "s3://shop/'\u00fc")
    rows = [{"id": n, "name": f"b{n}", "dest": dest, "sandbox": n == 1} for n, dest in enumerate(dests)]
    tx.execute(insert(batches), [{**row, **each} for each in rows])
    return dests


@pytest.fixture
def filled(ledger, tmp_path):
    with ledger._database.writing() as tx:
        yield tx, _filled(tx, tmp_path)


def test_rows_have_names_and_values_are_converted_as_by_sqlalchemy(filled):
    tx, _ = filled
    expected = tx.execute(_ALL).all()

    found = fetch(tx, _ALL)

    assert [tuple(row) for row in found] == [tuple(row) for row in expected]
    assert [row.dest for row in found] == [row.dest for row in expected]
    assert [row.sandbox for row in found] == [False, True, False]


@pytest.mark.parametrize("wanted", [[], [0], [1, 2], [0, 1, 2]])
def test_one_of_many_values_is_asked_for_with_one_parameter(filled, wanted):
    tx, dests = filled
    values = {"dests": [dests[number] for number in wanted]}

    assert [row.id for row in fetch(tx, _AT, values)] == wanted
    assert [row.id for row in fetch(tx, _ELSEWHERE, values)] == [n for n in range(3) if n not in wanted]
    assert [row.id for row in tx.execute(_AT, values)] == wanted


def test_values_that_a_statement_brings_itself_are_bound(filled):
    tx, _ = filled

    assert fetch_value(tx, _ACTIVE) == 3
    assert fetch_first(tx, _AT, {"dests": ["nowhere"]}) is None


def test_changes_tell_how_many_rows_they_found(filled):
    tx, _ = filled

    assert run(tx, _RENAME, {"of_batch": 1, "called": "x"}) == 1
    assert run(tx, _RENAME, {"of_batch": 9, "called": "y"}) == 0
    run_each(tx, _RENAME, [{"of_batch": 0, "called": "p"}, {"of_batch": 2, "called": "q"}])
    assert sorted(tx.execute(select(batches.c.name)).scalars()) == ["p", "q", "x"]


def test_errors_are_those_of_sqlalchemy_and_listeners_hear_of_them_and_of_each_statement(ledger, tmp_path):
    engine, heard, said = ledger._database.writer, [], []
    event.listen(engine, "handle_error", lambda context: heard.append(context.statement))
    event.listen(engine, "before_cursor_execute", lambda _tx, _cursor, text, *_: said.append(text))

    def take_a_name_twice(tx):
        _filled(tx, tmp_path)
        run(tx, _RENAME, {"of_batch": 1, "called": "b2"})

    with pytest.raises(IntegrityError):
        ledger._database.write(take_a_name_twice)

    assert len(heard) == 1
    assert heard[0] in said
    with ledger._database.reading() as tx:
        assert fetch(tx, _ALL) == []
        assert fetch(tx, select(events)) == []


def test_what_was_compiled_for_a_ledger_ends_with_it(sqlite_ledger_url):
    ledger = open_ledger(sqlite_ledger_url)
    with ledger._database.reading() as tx:
        assert fetch(tx, _ALL) == []
    dialect = weakref.ref(ledger._database.reader.dialect)
    ledger.close()

    del ledger, tx
    gc.collect()

    assert dialect() is None


def test_a_list_of_values_that_cannot_be_written_as_text_is_refused(ledger):
    among_bytes = select(jobs.c.id).where(among(jobs.c.request, "these"))

    with ledger._database.reading() as tx, pytest.raises(TypeError):
        fetch(tx, among_bytes, {"these": [b"{}"]})


def test_a_connection_in_use_when_the_ledger_is_closed_ends_when_it_is_given_back(ledger_url):
    """A thread of a server may still read when the server ends."""
    with contextlib.closing(open_ledger(ledger_url)) as ledger, ledger._database.reading() as tx:
        driver = tx.connection.driver_connection
        assert driver is not None
        ledger.close()
        assert tx.execute(select(func.count()).select_from(batches)).scalar_one() == 0

    with pytest.raises(Exception, match="closed"):
        driver.execute("SELECT 1")
