"""The soak, small, in `make test-long`: `make soak` has 1,000 rows and 25 kills, and a cluster. See soak.md."""

from __future__ import annotations

import hashlib

import pytest

from tests.soak import copying, local, order
from tests.soak.judge import Findings, Look, after_the_kills, books, in_the_end
from tests.soak.work import Batch


@pytest.mark.long
def test_killed_again_and_again_it_pays_nothing_twice_unasked_and_stores_all_in_the_end(tmp_path):
    found = local.soak(tmp_path / "small", rows=60, kills=3, seed=7)

    assert not found.faults, found.table()


@pytest.mark.long
def test_in_a_backlog_of_ten_thousand_the_images_about_to_expire_go_first(tmp_path):
    found = order.show_order(tmp_path, images=10_000, seed=7)

    assert not found.faults, found.table()


@pytest.mark.long
def test_every_image_is_stored_whole_through_a_cdn_and_a_bucket_that_fail_in_a_tenth_of_each_way(tmp_path):
    found = copying.soak_faults(tmp_path, rows=40, seed=7)

    assert not found.faults, found.table()


@pytest.mark.long
def test_a_bucket_that_is_away_stops_submits_and_loses_nothing(tmp_path):
    found = copying.soak_away(tmp_path, rows=30, seed=7, away=0.0, lives=600.0)

    assert not found.faults, found.table()


@pytest.mark.long
def test_killed_while_it_copies_it_writes_nothing_twice_and_loses_nothing(tmp_path):
    found = copying.soak_killed(tmp_path, rows=60, kills=2, seed=7)

    assert not found.faults, found.table()


# -- the judge sees what is wrong ----------------------------------------------------------------------------------


@pytest.fixture
def batch(tmp_path):
    return Batch(folder=tmp_path, prompts={"a": "a lamp", "b": "a chair"})


def task(prompt, number=0, data=b"picture"):
    drawn = [hashlib.sha256(data).hexdigest()]
    return {"id": f"{prompt} {number}", "prompt": prompt, "charged_images": 1, "money_micros": 20_000, "sha256": drawn}


def look(tasks, *stored, listed=(), data=b"picture"):
    return Look(tasks=tasks, stored={key: [data] for key in stored}, listed=frozenset(listed))


def faults_of(judge, *arguments):
    found = Findings(title="")
    judge(found, *arguments)
    return len(found.faults)


def test_what_is_paid_twice_unasked_or_is_nowhere_or_is_anothers_picture_is_a_fault(batch):
    both = [task("a lamp"), task("a chair")]

    assert faults_of(after_the_kills, batch, look(both, "a", "b")) == 0
    assert faults_of(after_the_kills, batch, look(both, "a", listed="b")) == 0
    assert faults_of(after_the_kills, batch, look([*both, task("a lamp", 1)], "a", "b")) == 1
    assert faults_of(after_the_kills, batch, look(both, "a")) == 1
    assert faults_of(after_the_kills, batch, look(both, "a", "b", data=b"another")) == 1
    assert faults_of(after_the_kills, batch, look([*both, task("a lamp", 1)], "b")) == 2


def test_more_paid_twice_than_was_listed_and_a_row_without_a_picture_are_faults(batch):
    tasks = [task("a lamp"), task("a lamp", 1), task("a chair")]

    assert faults_of(in_the_end, batch, look(tasks, "a", "b"), 1) == 0
    assert faults_of(in_the_end, batch, look(tasks, "a", "b"), 0) == 1
    assert faults_of(in_the_end, batch, look(tasks, "a"), 1) == 1


def test_books_that_differ_by_more_than_the_lost_answers_are_a_fault():
    tasks = [task("a lamp"), task("a lamp", 1), task("a chair")]
    known = ["a lamp 1", "a chair 0", None]

    assert faults_of(books, look(tasks), {"charged": 60_000, "given_up": 20_000}, known) == 0
    assert faults_of(books, look(tasks), {"charged": 60_001, "given_up": 20_000}, known) == 1
    assert faults_of(books, look(tasks), {"charged": 40_000, "given_up": 0}, known) == 1
