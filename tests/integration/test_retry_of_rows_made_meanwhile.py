"""Rows that another batch has made since: `retry` and `resume` take them, or ask before they are bought twice."""

from __future__ import annotations

import contextlib

import pytest
from sqlalchemy import update

from cli.commands import again
from jobs.errors import BadInput
from jobs.ledger import open_ledger
from jobs.ledger.claims.reuse import FewerToReuse, ReuseOptions
from jobs.ledger.database.schema import jobs
from jobs.policy.reuse import Reuse
from jobs.states import JobState
from tests.support.ledger_files import new_ledger
from tests.support.manifest_world import MAIN, NOW, World, fail, finish, rows
from tests.support.shop_ledger import call


@pytest.fixture
def shop(tmp_path, ledger):
    ledger.accounts.sync([MAIN])
    return World(tmp_path, ledger)


def two_nights(shop, count, **first):
    """Of the first night's rows half are stored and half failed; the second night has made the failed ones."""
    shop.take(rows(count), "night1", **first)
    finish(shop.ledger, "night1", most=count // 2)
    fail(shop.ledger, "night1")
    shop.take(rows(count), "night2", reuse=Reuse.COPY)
    finish(shop.ledger, "night2")


def states(shop, name="night1"):
    return {state: number for state, number in shop.ledger.reports.progress(name).jobs.items() if number}


def bought(shop):
    return len(shop.ledger.claims.submits("main", NOW, lease=60.0, horizon=60.0).intents)


def test_a_retry_takes_what_a_later_batch_has_made_and_buys_nothing(shop):
    two_nights(shop, 6, reuse=Reuse.COPY)

    assert shop.ledger.batches.retry("night1", NOW) == 3

    assert states(shop) == {JobState.DONE: 3, JobState.WORKING: 3}
    assert bought(shop) == 0


def test_a_retry_of_a_batch_without_reuse_takes_nothing_unless_that_is_said(shop):
    two_nights(shop, 6)
    shop.ledger.batches.retry("night1", NOW)
    assert states(shop) == {JobState.DONE: 3, JobState.READY: 3}

    fail(shop.ledger, "night1")
    shop.ledger.batches.retry("night1", NOW, reuse=ReuseOptions(how=Reuse.LINK, at_least=3))
    assert states(shop) == {JobState.DONE: 3, JobState.WORKING: 3}


def test_a_retry_that_finds_fewer_images_than_were_told_changes_nothing(shop):
    two_nights(shop, 6, reuse=Reuse.COPY)

    with pytest.raises(FewerToReuse):
        shop.ledger.batches.retry("night1", NOW, reuse=ReuseOptions(how=Reuse.COPY, at_least=4))

    assert states(shop) == {JobState.DONE: 3, JobState.FAILED: 3}


def test_rows_that_waited_for_a_budget_take_what_was_made_meanwhile_when_the_batch_is_resumed(shop):
    shop.take(rows(4), "night1", reuse=Reuse.COPY)
    shop.ledger.batches.pause("night1", "")
    shop.take(rows(3), "night2", reuse=Reuse.COPY)
    finish(shop.ledger, "night2")

    shop.ledger.batches.resume("night1", NOW)

    assert states(shop) == {JobState.WORKING: 3, JobState.READY: 1}
    assert bought(shop) == 1


def test_a_row_whose_image_could_not_be_taken_is_bought_by_a_retry(shop):
    two_nights(shop, 2, reuse=Reuse.COPY)
    shop.ledger.batches.retry("night1", NOW)
    with shop.ledger._database.writing() as tx:  # as `ReuseGone` leaves it
        tx.execute(update(jobs).where(jobs.c.state == JobState.WORKING.value).values(state=JobState.FAILED.value))
        tx.exec_driver_sql("UPDATE images SET state = 'missing' WHERE source_id IS NOT NULL AND state = 'generated'")

    shop.ledger.batches.retry("night1", NOW)

    assert bought(shop) == 1


# -- as it is told -------------------------------------------------------------------------------------------------


@pytest.fixture
def at_home(tmp_path, monkeypatch):
    """A ledger where the commands look for it; they work nothing."""
    monkeypatch.setattr(again, "work_here", lambda *_, **__: 0)
    monkeypatch.setattr(again, "demand_folder", lambda *_: None)

    @contextlib.contextmanager
    def opened():
        path = tmp_path / "lightfast.db"
        url = f"sqlite:///{path}" if path.exists() else new_ledger(path)
        with contextlib.closing(open_ledger(url)) as ledger:
            ledger.accounts.sync([MAIN])
            yield World(tmp_path, ledger)

    return opened


def test_the_command_says_what_is_taken_and_asks_for_no_money(at_home):
    with at_home() as shop:
        two_nights(shop, 6, reuse=Reuse.COPY)

    said = call("retry", "night1").stderr

    assert "retry: 3 rows of night1, at most $0.00" in said
    assert "the images of 3 rows were made meanwhile (night2): copied from where they are, and not paid for" in said
    with at_home() as shop:
        assert states(shop) == {JobState.DONE: 3, JobState.WORKING: 3}


def test_a_yes_does_not_buy_most_of_a_batch_twice_and_says_how_it_costs_nothing(at_home):
    with at_home() as shop:
        two_nights(shop, 24)

    with pytest.raises(BadInput, match=r"12 of 12 rows to be paid were made already\. --yes alone does not buy that"):
        call("retry", "night1", "--yes")
    with at_home() as shop:
        assert states(shop) == {JobState.DONE: 12, JobState.FAILED: 12}

    call("retry", "night1", "--reuse")
    with at_home() as shop:
        assert states(shop) == {JobState.DONE: 12, JobState.WORKING: 12}


def test_few_rows_are_told_and_bought_on_a_yes_and_many_on_buy_again(at_home):
    with at_home() as shop:
        two_nights(shop, 6)
    said = call("retry", "night1", "--yes").stderr
    assert "3 of 3 rows to be paid have a request that was made already: night2" in said
    assert "to take their images for nothing:  lightfast retry night1 --reuse" in said
    with at_home() as shop:
        assert states(shop) == {JobState.DONE: 3, JobState.READY: 3}

    with at_home() as shop:
        shop.take(rows(24, prompt="sofa"), "day1")
        fail(shop.ledger, "day1")
        shop.made(rows(24, prompt="sofa"), "day2")
    call("retry", "day1", "--yes", "--buy-again")
    with at_home() as shop:
        assert states(shop, "day1") == {JobState.READY: 24}


def test_what_was_to_be_reused_and_cannot_be_is_not_bought_on_a_yes_alone(at_home):
    with at_home() as shop:
        shop.take(["a,lamp,2"], "night1", head="key,prompt,n", reuse=Reuse.COPY)
        fail(shop.ledger, "night1")
        shop.made(["a,lamp,2"], "night2", head="key,prompt,n")
        with shop.ledger._database.writing() as tx:
            partly = update(jobs).where(jobs.c.state == JobState.DONE.value)
            tx.execute(partly.values(state=JobState.PARTIAL.value))

    with pytest.raises(BadInput, match="1 of 1 row to be paid were made already"):
        call("retry", "night1", "--yes")
    call("retry", "night1", "--yes", "--buy-again")
    with at_home() as shop:
        assert states(shop) == {JobState.READY: 1}


# -- rows that wait in another batch -------------------------------------------------------------------------------


def a_night_that_waits(shop, count, first, **options):
    """The first night's rows have failed, and are in the second, which was killed before it has sent them."""
    shop.take(rows(count), "night1", **options)
    first(shop)
    shop.take(rows(count), "night2", **options)


def test_a_retry_buys_nothing_that_waits_in_another_batch_and_says_where(at_home, capsys):
    with at_home() as shop:
        a_night_that_waits(shop, 4, lambda shop: fail(shop.ledger, "night1"), reuse=Reuse.COPY)

    with pytest.raises(BadInput, match=r"4 of 4 rows to be paid wait in another batch\. --yes alone does not buy that"):
        call("retry", "night1", "--yes")
    with at_home() as shop:
        assert states(shop) == {JobState.FAILED: 4}
    said = call("retry", "night1", "--yes", "--buy-again").stderr
    assert "4 of 4 rows to be paid have a request that waits in another batch, which will buy it: night2" in said
    assert "to go on there:  lightfast retry night2" in said
    with at_home() as shop:
        assert states(shop) == {JobState.READY: 4}


def test_a_retry_buys_what_waits_in_a_batch_that_was_cancelled(at_home):
    with at_home() as shop:
        a_night_that_waits(shop, 4, lambda shop: fail(shop.ledger, "night1"), reuse=Reuse.COPY)
        shop.ledger.batches.cancel("night2")

    call("retry", "night1", "--yes")

    with at_home() as shop:
        assert states(shop) == {JobState.READY: 4}


def test_a_resume_buys_nothing_that_waits_in_another_batch(at_home):
    with at_home() as shop:
        a_night_that_waits(shop, 4, lambda shop: shop.ledger.batches.pause("night1", "on your word"), reuse=Reuse.COPY)

    with pytest.raises(BadInput, match=r"4 of 4 rows to be paid wait in another batch\. resume does not buy that"):
        call("resume", "night1")
    with at_home() as shop:
        assert shop.ledger.batches.find("night1").state == "paused"
        shop.ledger.batches.cancel("night2")
    call("resume", "night1")
    with at_home() as shop:
        assert shop.ledger.batches.find("night1").state == "active"


def test_few_rows_that_wait_elsewhere_too_are_bought_where_no_image_was_to_be_reused(at_home):
    with at_home() as shop:
        a_night_that_waits(shop, 4, lambda shop: fail(shop.ledger, "night1"))

    said = call("retry", "night1", "--yes").stderr

    assert "4 of 4 rows to be paid have a request that waits in another batch" in said
    with at_home() as shop:
        assert states(shop) == {JobState.READY: 4}
