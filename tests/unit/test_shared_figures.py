"""Counts of batches that all who ask share: a large batch is counted rarely, and nobody waits for its next count."""

from __future__ import annotations

import contextlib
import threading

import pytest

from jobs.ledger import open_ledger
from jobs.states import BatchState, JobState
from tests.support import stocked_ledger
from tests.support.patience import AT_LAST, until
from web import figures
from web.figures import SharedFigures


class World:
    """A batch whose counts take as long as the test says, by a clock that the test moves."""

    def __init__(self, ledger):
        self.ledger, self.now, self.takes, self.counts = ledger, 0.0, 0.0, 0
        self.free = threading.Event()
        self.free.set()
        self.count, ledger.reports.progress = ledger.reports.progress, self.progress
        self.figures = SharedFigures(lambda: ledger, lambda: self.now)

    def progress(self, name, now):
        self.counts += 1
        assert self.free.wait(AT_LAST)
        self.now += self.takes
        return self.count(name, now)

    def batch(self, name="spring"):
        return self.ledger.batches.find(name)

    def ready(self, **patience):
        found = self.figures.of(self.batch(), **patience)
        return found and found.progress.jobs.get(JobState.READY, 0)

    def make_one(self):
        stocked_ledger.make(self.ledger)

    def later(self, seconds):
        self.now += seconds


@pytest.fixture
def world(sqlite_ledger_url):
    with contextlib.closing(open_ledger(sqlite_ledger_url)) as ledger:
        stocked_ledger.stock(ledger, stocked_ledger.rows(3))
        world = World(ledger)
        yield world
        world.free.set()
        world.figures.close()


def test_many_who_ask_share_one_count(world):
    assert [world.ready() for _ in range(5)] == [3] * 5
    assert world.counts == 1


def test_a_small_batch_is_counted_anew_each_second_and_only_when_somebody_asks(world):
    world.ready()
    world.make_one()
    world.later(0.9)
    assert world.ready() == 3

    world.later(0.2)

    assert world.counts == 1
    assert world.ready() == 2
    assert world.counts == 2


def test_what_the_batchs_own_row_keeps_is_always_as_it_is_now(world):
    world.takes = 1.0
    world.ready()
    world.free.clear()
    world.ledger.batches.pause("spring", "on your word")
    world.ledger.emergency_stop.begin(5.0, "me")

    told = world.figures.of(world.batch())

    assert told.progress.batch.state is BatchState.PAUSED
    assert told.progress.batch.reason == "on your word"
    assert told.progress.stop.by == "me"


def test_the_next_count_of_a_large_batch_is_waited_for_by_nobody_and_comes_when_it_may_take_its_part(world):
    world.takes = 3.0
    world.ready()
    world.make_one()
    world.later(3.0 / figures.COUNTING_PART - 3.1)
    world.ready()
    assert world.counts == 1

    world.later(0.2)
    world.free.clear()

    assert world.ready() == 3  # while it is being counted
    world.free.set()
    until(lambda: world.ready() == 2)
    assert world.counts == 2


def test_batches_that_are_watched_together_share_the_part_of_the_time(world):
    world.ledger.batches.record_manifest(stocked_ledger.new_batch("summer"), stocked_ledger.rows(1), now=1.0)
    world.takes = figures.WATCHED_FOR / 2 * figures.COUNTING_PART
    world.ready()
    world.figures.of(world.batch("summer"))
    world.later(figures.WATCHED_FOR / 2)  # enough for a batch that is watched alone
    world.ready()
    world.figures.of(world.batch("summer"))
    assert world.counts == 2

    world.later(figures.WATCHED_FOR / 2)
    world.ready()

    until(lambda: world.counts == 3)


def test_who_does_not_wait_is_told_so_and_the_count_goes_on(world):
    world.free.clear()
    assert world.ready(patience=0.0) is None
    assert world.ready(patience=0.0) is None
    world.free.set()

    until(lambda: world.ready(patience=0.0) == 3)
    assert world.counts == 1


def test_a_count_from_long_ago_is_no_answer(world):
    world.takes = 1.0
    world.ready()
    world.make_one()
    world.later(3_600.0)

    assert world.ready() == 2


def test_after_a_change_a_cheap_count_is_made_at_once(world):
    world.ready()
    world.make_one()
    world.figures.changed(world.batch())

    assert world.ready() == 2


def test_after_a_change_of_its_state_by_somebody_else_too(world):
    world.ready()
    world.ledger.batches.cancel("spring")

    assert world.ready() == 0


def test_a_count_that_began_before_a_change_is_made_again(world):
    world.free.clear()
    world.ready(patience=0.0)
    until(lambda: world.counts == 1)
    world.figures.changed(world.batch())
    world.free.set()

    until(lambda: world.ready() == 3 and world.counts == 2)


def test_only_so_many_batches_are_kept(world, monkeypatch):
    monkeypatch.setattr(figures, "MOST_KEPT", 1)
    world.ledger.batches.record_manifest(stocked_ledger.new_batch("summer"), stocked_ledger.rows(1), now=1.0)
    for name in ("spring", "summer", "spring"):
        world.figures.of(world.batch(name))

    assert world.counts == 3


def test_a_ledger_that_does_not_answer_is_told_where_nothing_was_counted_before(world):
    def away(_name, _now):
        raise OSError("away")

    world.ready()
    world.ledger.reports.progress = away
    world.later(2.0)
    assert world.ready() == 3

    world.ledger.batches.record_manifest(stocked_ledger.new_batch("summer"), stocked_ledger.rows(1), now=1.0)
    with pytest.raises(OSError, match="away"):
        world.figures.of(world.batch("summer"))
