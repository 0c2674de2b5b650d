"""The same row is not paid again; a manifest is recorded whole or not at all; one worker at a time on SQLite."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import threading

import pytest
from sqlalchemy import create_engine, event, insert, inspect, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.pool import NullPool

from jobs.errors import LedgerBusy, LightfastError, WrongSchema
from jobs.facts import SubmitAccepted
from jobs.ledger import is_away, open_ledger
from jobs.ledger.batches import manifests
from jobs.ledger.batches.manifests import ChangedRows
from jobs.ledger.batches.values import Row
from jobs.ledger.database import engine, migrations, opening, schema
from jobs.policy.failover import Failover
from jobs.results.rows import row_values
from jobs.states import ATTEMPT_STEPS, AttemptState, JobState
from tests.support import ROOT, stocked_ledger
from tests.support.patience import until
from tests.support.stocked_ledger import NOW


def keys(ledger):
    return [result.key for result in ledger.reports.results("spring")]


def test_the_same_manifest_again_adds_nothing(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(2500))
    stocked_ledger.claim(ledger, NOW, times=2)

    ledger.batches.record_manifest(stocked_ledger.new_batch(), stocked_ledger.rows(2500), now=NOW)

    progress = ledger.reports.progress("spring")
    assert progress.images_total == 2500
    assert progress.jobs == {JobState.READY: 2500 - 128, JobState.WORKING: 128}


def indexes(ledger):
    asked = {
        "sqlite": "SELECT name, sql FROM sqlite_master WHERE type = 'index'",
        "postgresql": "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = current_schema()",
    }
    with ledger._database.reading() as tx:
        return set(map(tuple, tx.execute(text(asked[tx.dialect.name]))))


def test_the_first_manifest_of_a_ledger_leaves_the_indexes_that_it_found(ledger):
    before = indexes(ledger)
    meanwhile = []

    def planned():
        for row in stocked_ledger.rows(300):
            if row.position == 299:
                meanwhile.append(indexes(ledger))
            yield row

    ledger.batches.record_manifest(stocked_ledger.new_batch(), planned(), now=NOW)

    assert meanwhile == [before], "others see the ledger as it was until all rows are there"
    assert indexes(ledger) == before
    hashes = [row.request_hash for row in stocked_ledger.rows(300)]
    stored = ledger.batches.known(1, ["k0", "k299"])
    assert {row.request_hash for row in stored.values()} == {hashes[0], hashes[299]}


def test_a_first_manifest_that_breaks_off_leaves_the_indexes_and_no_row(ledger):
    before = indexes(ledger)

    def planned():
        yield from stocked_ledger.rows(300)
        raise OSError("the manifest can't be read on")

    with pytest.raises(OSError, match="read on"):
        ledger.batches.record_manifest(stocked_ledger.new_batch(), planned(), now=NOW)

    assert indexes(ledger) == before
    assert ledger.batches.find("spring") is None
    ledger.batches.record_manifest(stocked_ledger.new_batch(), stocked_ledger.rows(3), now=NOW)
    assert indexes(ledger) == before
    assert len(keys(ledger)) == 3


def test_each_row_of_a_long_manifest_is_on_record_as_it_was_planned(ledger):
    planned = [stocked_ledger.row(position, n=position % 3 + 1) for position in range(1_503)]
    planned[7] = Row(position=7, line=9, key="k7", carried=b"{}", state=JobState.SKIPPED, error_code="empty_column")
    ledger.batches.record_manifest(stocked_ledger.new_batch(), planned, now=NOW)

    made = [row for row in planned if row.state is JobState.READY]
    with ledger._database.reading() as tx:
        asked = tx.execute(select(*(schema.jobs.c[name] for name in schema.ASKED)).order_by(schema.jobs.c.position))
        on_record = [tuple(row) for row in asked]
    assert on_record[7] == (*[None] * 9, 1, 1)
    assert [row for row in on_record if row[0]] == [
        (
            *(row.request.to_json(), row.request.hash(), row.path, row.provider, row.provider_model),
            *(row.price, row.mode, *row.pixels, row.request.n, row.max_n),
        )
        for row in made
    ]
    known = ledger.batches.known(1, [row.key for row in made])
    assert {key: row.free for key, row in known.items()} == {row.key: row.request.n for row in made}
    assert [result.line for result in ledger.reports.results("spring")] == [row.line for row in planned]


def test_rows_that_are_alike_for_a_while_only_are_on_record_as_they_were_planned(ledger):
    """What many rows have in common is handed over once, by a statement of its own for each set of such columns."""
    alike = [stocked_ledger.row(position) for position in range(500)]
    unlike = [stocked_ledger.row(position, n=position % 2 + 1) for position in range(500, 1_000)]
    priced = [dataclasses.replace(stocked_ledger.row(position), price=position) for position in range(1_000, 1_500)]
    planned = [*alike, *unlike, *(stocked_ledger.row(position) for position in range(1_500, 2_100)), *priced]
    planned = [dataclasses.replace(row, position=position, key=f"r{position}") for position, row in enumerate(planned)]
    inserted = set()
    event.listen(ledger._database.writer, "before_cursor_execute", lambda *told: inserted.add(told[2]))

    ledger.batches.record_manifest(stocked_ledger.new_batch(), planned, now=NOW)

    with ledger._database.reading() as tx:
        on_record = tx.execute(select(schema.jobs).order_by(schema.jobs.c.id)).all()
        slots = tx.execute(select(schema.images.c.job_id, schema.images.c.slot)).all()
    assert [(row.key, row.price, row.n, row.request) for row in on_record] == [
        (row.key, row.price, row.request.n, row.request.to_json()) for row in planned
    ]
    wanted = [(job.id, slot) for job, row in zip(on_record, planned, strict=True) for slot in range(row.request.n)]
    assert sorted(map(tuple, slots)) == wanted
    assert len([text for text in inserted if text.startswith("INSERT OR FAIL INTO jobs")]) <= 4


@pytest.mark.parametrize("fails", [False, True])
def test_sqlite_looks_up_what_rows_refer_to_again_after_a_new_batch_was_recorded(sqlite_ledger_url, fails):
    def planned():
        yield from stocked_ledger.rows(600)
        if fails:
            raise KeyboardInterrupt

    with contextlib.closing(open_ledger(sqlite_ledger_url)) as ledger:
        with pytest.raises(KeyboardInterrupt) if fails else contextlib.nullcontext():
            ledger.batches.record_manifest(stocked_ledger.new_batch(), planned(), now=NOW)

        assert len(ledger.batches.all()) == (0 if fails else 1)
        with ledger._database.reading() as tx:
            assert tx.exec_driver_sql("PRAGMA foreign_key_check").all() == []
        with pytest.raises(IntegrityError), ledger._database.writing() as tx:
            tx.execute(insert(schema.images).values(batch_id=7, job_id=7, revision=1, slot=0, state="missing"))


def test_a_row_that_sqlite_refuses_leaves_nothing_of_the_manifest(sqlite_ledger_url):
    planned = stocked_ledger.rows(1_200)
    planned[1_100] = dataclasses.replace(planned[1_100], key=planned[3].key)

    with contextlib.closing(open_ledger(sqlite_ledger_url)) as ledger:
        with pytest.raises(IntegrityError):
            ledger.batches.record_manifest(stocked_ledger.new_batch(), planned, now=NOW)

        assert ledger.batches.find("spring") is None
        with ledger._database.reading() as tx:
            assert tx.execute(select(schema.jobs.c.id)).all() == tx.execute(select(schema.images.c.id)).all() == []


def test_a_batch_that_another_process_records_first_is_recorded_onto(ledger, monkeypatch):
    """Between the look whether it is new and the lock."""
    look, looks = manifests.is_new, []

    def is_new(tx, name):
        looks.append(name)
        return len(looks) == 1 or look(tx, name)

    ledger.batches.record_manifest(stocked_ledger.new_batch(), stocked_ledger.rows(3), now=NOW)
    monkeypatch.setattr(manifests, "is_new", is_new)
    ledger.batches.record_manifest(stocked_ledger.new_batch(), stocked_ledger.rows(5), now=NOW)

    assert len(looks) == 2
    assert len(keys(ledger)) == 5


def test_a_row_that_postgresql_refuses_is_an_error_of_the_ledger_and_nothing_is_recorded(postgres_ledger_url):
    planned = stocked_ledger.rows(1_200)
    planned[1_100] = dataclasses.replace(planned[1_100], key="a\0b")

    with contextlib.closing(open_ledger(postgres_ledger_url)) as ledger:
        with pytest.raises(DBAPIError) as refused:
            ledger.batches.record_manifest(stocked_ledger.new_batch(), planned, now=NOW)

        assert not is_away(refused.value)
        assert ledger.batches.find("spring") is None


def test_a_server_that_ends_the_session_while_rows_are_recorded_counts_as_away(postgres_ledger_url):
    others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> :me"

    def rows():
        yield from stocked_ledger.rows(1_100)
        with create_engine(engine.normalized(postgres_ledger_url), poolclass=NullPool).connect() as other:
            me = other.execute(text("SELECT pg_backend_pid()")).scalar()
            other.execute(text(others), {"me": me})
        yield from stocked_ledger.rows(1_100, first=1_100)

    with contextlib.closing(open_ledger(postgres_ledger_url)) as ledger:
        with pytest.raises(DBAPIError) as ended:
            ledger.batches.record_manifest(stocked_ledger.new_batch(), rows(), now=NOW)

        assert is_away(ended.value)
        assert ledger.batches.record_manifest(stocked_ledger.new_batch(), stocked_ledger.rows(2), now=NOW).id
        assert ledger.reports.progress("spring").images_total == 2


def test_added_rows_are_new_and_results_follow_the_newest_order(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(3))

    shuffled = [stocked_ledger.row(p, prompt=f"a lamp {p}") for p in (4, 2, 0, 1)]
    placed = [_at(position, row) for position, row in enumerate(shuffled)]
    ledger.batches.record_manifest(stocked_ledger.new_batch(), placed, now=NOW)

    assert keys(ledger) == ["k4", "k2", "k0", "k1"]


def test_rows_left_out_of_the_newest_manifest_are_not_sent(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(3))
    ledger.batches.record_manifest(stocked_ledger.new_batch(), stocked_ledger.rows(1), now=NOW)

    assert stocked_ledger.claim(ledger, NOW) == 1


def test_a_row_nothing_was_paid_for_takes_a_new_request_freely(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(2))

    ledger.batches.record_manifest(stocked_ledger.new_batch(), stocked_ledger.rows(2, prompt="a chair", n=2), now=NOW)

    intents = ledger.claims.submits("main", NOW, lease=90).intents
    assert [(intent.request.prompt, intent.n) for intent in intents] == [("a chair 0", 2), ("a chair 1", 2)]


def test_a_row_that_is_being_made_keeps_its_request_unless_it_is_to_be_redone(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(1))
    stocked_ledger.claim(ledger, NOW)
    changed = stocked_ledger.rows(1, prompt="a chair")

    with pytest.raises(ChangedRows):
        ledger.batches.record_manifest(stocked_ledger.new_batch(), changed, now=NOW)
    ledger.batches.record_manifest(stocked_ledger.new_batch(), changed, keep_changed=True, now=NOW)
    assert stocked_ledger.claim(ledger, NOW) == 0
    assert row_values(ledger.reports.story("spring", "k0").result, str)["lf_flags"] == ["kept"]
    ledger.batches.record_manifest(stocked_ledger.new_batch(), changed, redo_changed=True, now=NOW)

    (intent,) = ledger.claims.submits("main", NOW, lease=90).intents
    assert intent.request.prompt == "a chair 0"
    again = ledger.reports.story("spring", "k0").result
    assert (again.revision, again.kept) == (2, False)


def test_a_manifest_that_breaks_in_the_middle_leaves_nothing(ledger):
    def breaks():
        yield from stocked_ledger.rows(1500)
        raise OSError("the file is gone")

    with pytest.raises(OSError, match="gone"):
        ledger.batches.record_manifest(stocked_ledger.new_batch(), breaks(), now=NOW)

    assert ledger.batches.find("spring") is None


def test_rows_that_are_no_jobs_are_told_in_their_place_and_may_share_a_key(ledger):
    bad = _at(1, stocked_ledger.row(0), state=JobState.INVALID, error_code="bad_row", message="n: two", request=None)
    stocked_ledger.stock(
        ledger, [stocked_ledger.row(0), bad, _at(2, stocked_ledger.row(0), state=JobState.SKIPPED, request=None)]
    )

    ledger.batches.record_manifest(stocked_ledger.new_batch(), [stocked_ledger.row(0), bad], now=NOW)

    told = [(result.key, result.state) for result in ledger.reports.results("spring")]
    assert told == [("k0", JobState.READY), ("k0", JobState.INVALID)]


def test_many_results_come_page_by_page_in_order(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(1201))

    assert keys(ledger) == [f"k{n}" for n in range(1201)]


def _at(position, row, **changes):
    values = {name: getattr(row, name) for name in row.__slots__}
    return type(row)(**{**values, "position": position, **changes})


# -- one worker, and what a dead one left ----------------------------------------------------------------------------


def test_a_second_worker_is_told_who_holds_the_ledger(sqlite_ledger_url):
    ledger = open_ledger(sqlite_ledger_url)
    with ledger.hold(NOW), pytest.raises(LedgerBusy, match=f"process {os.getpid()} on "), ledger.hold(NOW):
        pass
    ledger.close()


def test_a_killed_worker_leaves_its_submits_unknown_and_the_next_goes_on_at_once(sqlite_ledger_url):
    ledger = open_ledger(sqlite_ledger_url)
    stocked_ledger.stock(ledger, stocked_ledger.rows(5))
    worker = (
        "import sys; from jobs.ledger import open_ledger; from tests.support import stocked_ledger\n"
        f"ledger = open_ledger({sqlite_ledger_url!r})\n"
        f"with ledger.hold({NOW}):\n"
        f"    stocked_ledger.claim(ledger, {NOW}, at_most=2); print('claimed', flush=True); sys.stdin.read()\n"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", worker], cwd=ROOT, text=True, **pipes) as process:
        assert process.stdout.readline() == "claimed\n"
        process.send_signal(signal.SIGKILL)

    with ledger.hold(NOW + 1):
        assert len(ledger.unknowns.all("spring")) == 2
        assert stocked_ledger.claim(ledger, NOW + 1) == 3
    ledger.close()


def test_a_killed_workers_provider_tasks_are_polled_at_once(sqlite_ledger_url):
    ledger = open_ledger(sqlite_ledger_url)
    stocked_ledger.stock(ledger, stocked_ledger.rows(1))
    (intent,) = ledger.claims.submits("main", NOW, lease=90).intents
    later = NOW + 500
    told = {"at": NOW, "task_id": "t", "poll_path": None, "next_poll_at": later}
    ledger.facts.record([SubmitAccepted(attempt_id=intent.attempt_id, **told)])

    with ledger.hold(NOW + 1):
        assert len(ledger.claims.polls("main", NOW + 1, lease=60)[0]) == 1
    ledger.close()


# -- the schema ----------------------------------------------------------------------------------------------------


def _shape(connection):
    found = inspect(connection)
    return {
        table: (
            sorted((c["name"], str(c["type"]), c["nullable"]) for c in found.get_columns(table)),
            sorted((str(i["name"]), tuple(i["column_names"]), bool(i["unique"])) for i in found.get_indexes(table)),
            sorted(str(c["name"]) for c in found.get_check_constraints(table)),
        )
        for table in found.get_table_names()
        if table != "alembic_version"
    }


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_the_steps_lead_to_the_tables_the_code_declares(kind, request, tmp_path):
    address = f"sqlite:///{tmp_path}/steps.db" if kind == "sqlite" else request.getfixturevalue("postgres_url")
    database = create_engine(engine.normalized(address))
    with database.begin() as connection:
        migrations.upgrade(connection)
    with database.begin() as connection:
        stepped = _shape(connection)
        assert opening.revision(connection) == opening.HEAD
        connection.execute(text("DROP TABLE alembic_version"))
        schema.metadata.drop_all(connection)
        schema.metadata.create_all(connection)
        declared = _shape(connection)
    database.dispose()

    assert stepped == declared


def test_many_processes_may_find_an_empty_database_at_once(postgres_url):
    opened = []
    threads = [threading.Thread(target=lambda: opened.append(open_ledger(postgres_url))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len({ledger.ledger_id for ledger in opened}) == 1
    assert len(opened) == 8
    for ledger in opened:
        ledger.close()


def test_of_two_that_upgrade_a_ledger_at_once_one_waits_and_both_end_well(postgres_url):
    """Behind a pooler, too: the lock is held by the transaction, not by the session."""
    database = create_engine(engine.normalized(postgres_url))
    with database.begin() as connection:
        migrations.upgrade(connection, "0019")
        connection.execute(text("INSERT INTO ledger (id, created_at, secret) VALUES ('a', 1, 'b')"))
    opened, waiting = [], text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
    threads = [threading.Thread(target=lambda: opened.append(open_ledger(postgres_url, upgrade=True))) for _ in "12"]
    with database.begin() as first, database.connect() as looker:
        first.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": opening.SCHEMA_LOCK})
        for thread in threads:
            thread.start()
        until(lambda: looker.execute(waiting).scalar_one() == 2)
    for thread in threads:
        thread.join()

    assert len(opened) == 2
    for ledger in opened:
        with ledger._database.reading() as tx:
            assert opening.revision(tx) == opening.HEAD
        ledger.close()
    database.dispose()


def test_a_newer_ledger_is_refused_with_the_reason(sqlite_ledger_url):
    ledger = open_ledger(sqlite_ledger_url)
    with ledger._database.writing() as tx:
        tx.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    ledger.close()

    with pytest.raises(WrongSchema, match="9999, newer than this program"):
        open_ledger(sqlite_ledger_url)


def test_a_ledger_that_is_not_there_is_not_made_when_only_asked_for(tmp_path):
    with pytest.raises(LightfastError, match="there is no ledger"):
        open_ledger(f"sqlite:///{tmp_path}/none.db", create=False)

    assert not list(tmp_path.iterdir())


def test_the_drawing_of_the_states_and_the_table_agree():
    drawn = (ROOT / "docs" / "reference" / "job_lifecycle.md").read_text(encoding="utf-8")
    lines = [line.split("|")[1:3] for line in drawn.splitlines() if line.startswith("| `")]
    told = {left.strip(" `"): {to.strip(" `") for to in right.split(",") if to.strip(" `-")} for left, right in lines}

    assert told == {state.value: {to.value for to in steps} for state, steps in ATTEMPT_STEPS.items()}
    assert set(told) == {state.value for state in AttemptState}


def elsewhere(row, **route):
    told = {"provider": "maxapi.dev", "provider_model": "openai/gpt-image-2-beta", "mode": "official-cheap"}
    return dataclasses.replace(row, **{**told, "price": 5_435, "max_n": 10, **route})


def test_rows_that_wait_are_bought_on_the_route_and_at_the_price_that_the_newest_plan_told(ledger):
    """Planned long ago, before a cheaper route was known: what is agreed to now is what is set aside now."""
    ledger.accounts.sync([stocked_ledger.account(), stocked_ledger.account(name="dev", provider="maxapi.dev")])
    planned = stocked_ledger.rows(3)
    ledger.batches.record_manifest(stocked_ledger.new_batch(), planned, now=NOW)
    (bought,) = ledger.claims.submits("main", NOW, lease=90, at_most=1).intents

    ledger.batches.record_manifest(stocked_ledger.new_batch(), [elsewhere(row) for row in planned], now=NOW + 1)

    intents = ledger.claims.submits("dev", NOW + 1, lease=90, at_most=9).intents
    assert [(one.key, one.mode, one.price) for one in intents] == [(f"k{n}", "official-cheap", 5_435) for n in (1, 2)]
    assert ledger.claims.submits("main", NOW + 1, lease=90, at_most=9).intents == ()
    assert (bought.key, ledger.reports.progress("spring").batch.reserved) == ("k0", stocked_ledger.PRICE + 2 * 5_435)


def test_a_row_that_was_moved_or_made_anew_stays_as_it_is_when_its_manifest_comes_again(ledger):
    ledger.accounts.sync([stocked_ledger.account(), stocked_ledger.account(name="dev", provider="maxapi.dev")])
    (moved,) = (elsewhere(row) for row in stocked_ledger.rows(1))
    ledger.batches.record_manifest(stocked_ledger.new_batch(failover=Failover.EQUAL), [moved], now=NOW)
    ledger.batches.record_manifest(stocked_ledger.new_batch(failover=Failover.EQUAL), stocked_ledger.rows(1), now=NOW)
    assert [one.price for one in ledger.claims.submits("dev", NOW, lease=90).intents] == [5_435]

    ledger.batches.record_manifest(stocked_ledger.new_batch("autumn"), stocked_ledger.rows(1, prompt="a vase"), now=NOW)
    ledger.batches.redo("autumn", [("k0", None)], NOW, prices={"k0": 7})
    ledger.batches.record_manifest(stocked_ledger.new_batch("autumn"), stocked_ledger.rows(1, prompt="a vase"), now=NOW)
    assert [one.price for one in ledger.claims.submits("main", NOW, lease=90).intents] == [7]


def test_a_row_whose_price_was_agreed_to_does_not_go_where_nobody_knows_it(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(1))

    ledger.batches.record_manifest(
        stocked_ledger.new_batch(), [elsewhere(row, price=None) for row in stocked_ledger.rows(1)], now=NOW
    )

    assert [one.price for one in ledger.claims.submits("main", NOW, lease=90).intents] == [stocked_ledger.PRICE]
