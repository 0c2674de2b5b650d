"""Statements that PostgreSQL keeps ready: where a session is a connection's own, and nowhere else."""

from __future__ import annotations

import contextlib
import re

import pytest
from sqlalchemy import func, select, text

from jobs.ledger import open_ledger
from jobs.ledger.access import holds
from jobs.ledger.accounts.conditions import batches_to_tell_of
from jobs.ledger.claims import fair_share, submits
from jobs.ledger.database.schema import accounts, jobs
from jobs.ledger.database.statements import _compiled, fetch_first
from jobs.ledger.openai.batches import due
from tests.support import pooler, stocked_ledger
from tests.support.ledger_sums import check_money
from tests.support.stocked_ledger import NOW, make

#: Tables with a row for each image, or more.
LARGE = {"jobs", "attempts", "images", "events"}
ROWS = 6
#: What tells few rows of these from all others.
KEY = re.compile(r"\b(id|job_id|attempt_id|task_id)\b")
#: Indexes that have only what waits to be asked about or copied, in the order in which it is due.
DUE = {"ix_attempts_polled", "ix_images_due"}


@pytest.fixture
def stocked(postgres_ledger_url):
    with contextlib.closing(open_ledger(postgres_ledger_url)) as ledger:
        stocked_ledger.stock(ledger, stocked_ledger.rows(ROWS))
        yield ledger


def kept(ledger):
    """The statements that the ledger's session keeps, with their parameters' types."""
    wanted = "SELECT name, cardinality(parameter_types) AS parameters, generic_plans FROM pg_prepared_statements"
    return ledger._database.planned_once.write(lambda tx: tx.execute(text(wanted)).all())


def count_stored(ledger):
    with ledger._database.reading() as tx:
        return tx.execute(text("SELECT count(*) FROM images WHERE state = 'stored'")).scalar_one()


def test_what_is_recorded_often_is_read_and_planned_once_in_a_session(stocked):
    make(stocked)
    before = {row.name: row.generic_plans for row in kept(stocked)}

    make(stocked, NOW + 1)

    after = {row.name: row.generic_plans for row in kept(stocked)}
    assert len(before) > 10
    again = [name for name, times in before.items() if after[name] > times]
    assert len(again) > 10  # of all, but for the few that only the first image of a model needs
    assert count_stored(stocked) == 2


def test_plans_that_were_made_while_a_ledger_was_empty_stay_right_when_it_grows(stocked):
    make(stocked)
    make(stocked, NOW + 1, 3)

    def plans(tx):
        for row in tx.execute(text("SELECT name, cardinality(parameter_types) AS n FROM pg_prepared_statements")).all():
            tx.execute(text("SET LOCAL plan_cache_mode = force_generic_plan"))
            values = ", ".join(["NULL"] * row.n)
            yield tx.execute(text(f"EXPLAIN (FORMAT JSON) EXECUTE {row.name}({values})")).scalar_one()[0]["Plan"]

    found = stocked._database.planned_once.write(lambda tx: list(plans(tx)))

    for plan in found:
        for node in nodes(plan):
            if node.get("Relation Name") in LARGE:
                assert node["Node Type"] != "Seq Scan", plan
            if LARGE & set(node.get("Index Name", "").split("_")):
                assert KEY.search(node.get("Index Cond", "")) or node["Index Name"] in DUE, plan
    in_order = [plan for plan in found if DUE & {node.get("Index Name") for node in nodes(plan)}]
    assert len(in_order) >= len(DUE)
    assert not [plan for plan in in_order for node in nodes(plan) if "Sort" in node["Node Type"]]


def test_a_claim_after_a_mass_of_new_rows_reads_no_images_but_those_of_its_own(stocked):
    """PostgreSQL has not counted again since: it thinks that next to no image is missing."""
    with stocked._database.writing() as tx:
        tx.execute(text("UPDATE images SET state = 'stored', sha256 = ''"))
        copied = "batch_id, job_id, revision, state, surplus, sha256, tries"
        numbers = "generate_series(1, 500) AS number"
        tx.execute(text(f"INSERT INTO images ({copied}, slot) SELECT {copied}, slot + number FROM images, {numbers}"))
        tx.execute(text("ANALYZE images"))
        tx.execute(text("UPDATE images SET state = 'missing'"))
        made = _compiled(tx.dialect, submits._FREE)
        asked = made.bound({"of_jobs": list(tx.execute(text("SELECT id FROM jobs")).scalars())})
        plan = tx.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {made.text}", asked).scalar_one()[0]["Plan"]

    assert all(KEY.search(node["Index Cond"]) for node in nodes(plan) if "Index Cond" in node), plan


def test_statements_that_may_find_rows_in_any_way_are_planned_as_usual(stocked):
    mode = select(func.current_setting("plan_cache_mode"), func.current_setting("enable_seqscan"))

    def look(tx):
        return fetch_first(tx, mode), tuple(tx.execute(mode).one()), fetch_first(tx, mode)

    before, inside, after = stocked._database.planned_once.write(look)

    assert before == ("force_generic_plan", "off")
    assert inside == after == ("auto", "on")


def nodes(plan):
    yield plan
    for each in plan.get("Plans", ()):
        yield from nodes(each)


def test_nothing_is_prepared_in_a_session_that_a_pooler_shares(postgres_url):
    with pooler.stand_in(postgres_url, size=1) as shared, contextlib.ExitStack() as stack:
        ledgers = [stack.enter_context(contextlib.closing(open_ledger(shared.url))) for _ in range(2)]
        stocked_ledger.stock(ledgers[0], stocked_ledger.rows(ROWS))
        for turn in range(ROWS):
            make(ledgers[turn % 2], NOW + turn)
            assert kept(ledgers[turn % 2]) == []

        assert count_stored(ledgers[0]) == ROWS


def test_a_pooler_that_passes_on_greetings_and_shares_sessions_all_the_same_does_no_harm(postgres_url):
    with pooler.stand_in(postgres_url, size=1, hides_sessions=False) as shared, contextlib.ExitStack() as stack:
        ledgers = [stack.enter_context(contextlib.closing(open_ledger(shared.url))) for _ in range(3)]
        stocked_ledger.stock(ledgers[0], stocked_ledger.rows(2 * ROWS))
        for turn in range(2 * ROWS):
            make(ledgers[turn % 3], NOW + turn)

        assert count_stored(ledgers[0]) == 2 * ROWS
        check_money(ledgers[0])


@pytest.mark.parametrize("forgets", [b"DEALLOCATE ALL", b"DISCARD ALL"])
def test_a_session_that_forgets_what_it_kept_costs_no_fact(stocked, forgets):
    make(stocked)
    connection = stocked._database.preparer.raw_connection()
    connection.driver_connection.pgconn.exec_(forgets)  # behind the driver's back, as another client would
    connection.close()

    make(stocked, NOW + 1)
    make(stocked, NOW + 2)

    assert count_stored(stocked) == 3
    assert kept(stocked) == []  # it is not tried again


def rows_read(ledger, work):
    """Rows of jobs that PostgreSQL reads for it, from end to end or by an index."""
    count = text("SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'jobs'")

    def counted(tx):
        before = tx.execute(count).scalar_one()
        work(tx)
        return tx.execute(count).scalar_one() - before

    return ledger._database.write(counted)


def test_what_is_asked_of_each_batch_reads_no_rows_of_others_however_many_wait(stocked):
    """PostgreSQL has looked at the rows, and knows nothing of the batches: it looks by itself at 50 of them."""
    with stocked._database.writing() as tx:
        columns = ", ".join(each.name for each in jobs.columns if each.name not in ("id", "key", "position"))
        more = "1000000 + number, 'more' || number, 1000 + number FROM jobs, generate_series(1, 30000) AS number"
        first = "jobs.key = (SELECT min(key) FROM jobs)"
        insert = f"INSERT INTO jobs ({columns}, id, key, position) SELECT {columns}, {more} WHERE {first}"
        tx.execute(text(insert))
        tx.execute(text("ANALYZE jobs"))
        account = tx.execute(select(accounts)).first()
    questions = {
        "a claim": lambda tx: fair_share.with_work(tx, account, NOW, None, None, None),
        "what is told of": batches_to_tell_of,
        "what a token holds": lambda tx: holds.held(tx, 1, 1),
        "batches of OpenAI's API": lambda tx: due(tx, NOW, 10),
    }

    read = {name: rows_read(stocked, work) for name, work in questions.items()}

    assert {name: rows for name, rows in read.items() if rows > 50} == {}
