"""`redo` of rows as a shop's export has them, and what `redo` and `retry` wait for."""

from __future__ import annotations

import contextlib
import time

import pytest

from cli.commands import again
from jobs.errors import BadInput
from jobs.facts import SubmitRefused, SubmitUnclear, TaskSucceeded
from jobs.ledger import open_ledger
from jobs.ledger.batches.values import NewBatch
from jobs.states import JobState
from providers.types import Kind
from tests.support import stocked_ledger as shelf
from tests.support.manifest_world import finish
from tests.support.shop_ledger import a_row, call, open_shop
from tests.support.stocked_ledger import NOW


def test_a_product_whose_further_lines_were_skipped_is_made_anew(tmp_path, monkeypatch):
    (tmp_path / "out").mkdir(exist_ok=True)
    open_shop(tmp_path, tmp_path / "out")
    skipped = {"state": JobState.SKIPPED, "error_code": "empty_column", "message": "Title is empty"}
    rows = [a_row(0, "lamp", n=2), a_row(1, "lamp", **skipped), a_row(2, "vase"), a_row(3, "sofa"), a_row(4, "desk")]
    batch = NewBatch(
        name="shop", dest=str(tmp_path / "out"), path="", columns=("key", "Title"), source="shop.csv", budget=1_000_000
    )
    with contextlib.closing(open_ledger(f"sqlite:///{tmp_path / 'lightfast.db'}")) as ledger:
        ledger.batches.record_manifest(batch, rows, now=time.time())
    monkeypatch.setattr(again, "work_here", lambda *_, **__: 0)

    call("redo", "shop", "--key", "lamp", "--yes")

    with contextlib.closing(open_ledger(f"sqlite:///{tmp_path / 'lightfast.db'}")) as ledger:
        found = [(each.state, each.revision) for each in ledger.reports.results("shop") if each.key == "lamp"]
    assert found == [(JobState.READY, 2), (JobState.SKIPPED, 1)]


@pytest.mark.parametrize(
    "words", [("retry", "shop", "--error", "moderation", "--key", "vase"), ("redo", "shop", "--key", "lamp")]
)
def test_it_says_that_other_rows_are_waited_for_and_max_stall_ends_that(tmp_path, monkeypatch, words):
    (tmp_path / "out").mkdir(exist_ok=True)
    open_shop(tmp_path, tmp_path / "out")
    limits = []
    monkeypatch.setattr("cli.flow.execute.work", lambda *given: limits.append(given[3]) or 0)

    said = call(*words, "--yes", "--max-stall", "20s").stderr

    assert (
        "1 other row is not finished, and this goes on until it is too. "
        "--max-stall ends it where only a person can help" in said
    )
    assert [each.max_stall for each in limits] == [20.0]
    with pytest.raises(BadInput, match=r'--max-stall: "soon": expected a time'):
        call(*words, "--yes", "--max-stall", "soon")


def states(tmp_path):
    with contextlib.closing(open_ledger(f"sqlite:///{tmp_path / 'lightfast.db'}")) as ledger:
        return {each.key: each.state for each in ledger.reports.results("spring")}


def revisions(tmp_path):
    with contextlib.closing(open_ledger(f"sqlite:///{tmp_path / 'lightfast.db'}")) as ledger:
        return {each.key: each.revision for each in ledger.reports.results("shop")}


def test_a_redo_that_was_interrupted_goes_on_and_buys_nothing_twice(tmp_path, monkeypatch):
    open_shop(tmp_path, tmp_path / "out")
    worked = []
    monkeypatch.setattr("cli.flow.execute.work", lambda *given: worked.append(given[4].goes_on) or 0)
    anew = ("redo", "shop", "--key", "lamp", "--prompt", "a better lamp", "--yes")
    assert "lightfast retry" not in call("status", "shop").stdout
    call(*anew)
    before = revisions(tmp_path)
    assert before["lamp"] == 2
    assert worked == ["lightfast retry shop"], "what is said at its end goes on with it"

    assert "goes on; so does  lightfast retry shop\n" in call("status", "shop").stdout

    for words in (anew, ("redo", "shop", "--key", "lamp", "--yes"), ("retry", "shop")):
        said = call(*words)
        assert "not finished, and this goes on until" in said.stderr
        assert revisions(tmp_path) == before, words
    assert len(worked) == 4
    assert "redo: 1 row is being made so already: left as they are" in call(*anew).stderr

    assert "no row of shop ended with link_dead" in call("retry", "shop", "--error", "link_dead").stderr
    assert len(worked) == 5, "only what is meant for all rows goes on with the others"

    call("redo", "shop", "--key", "lamp", "--prompt", "a blue lamp", "--yes")
    assert revisions(tmp_path)["lamp"] == 3, "another prompt is another picture"


def test_a_row_that_has_its_image_of_this_very_prompt_is_not_bought_again(tmp_path, monkeypatch):
    open_shop(tmp_path, tmp_path / "out")
    monkeypatch.setattr("cli.flow.execute.work", lambda *_: 0)
    anew = ("redo", "shop", "--key", "lamp", "--prompt", "a better lamp", "--yes")
    call(*anew)
    with contextlib.closing(open_ledger(f"sqlite:///{tmp_path / 'lightfast.db'}")) as ledger:
        finish(ledger, "shop")

    assert "1 row has images of this prompt already: left as they are; without --prompt" in call(*anew).stderr
    assert revisions(tmp_path)["lamp"] == 2
    call("redo", "shop", "--key", "lamp", "--yes")
    assert revisions(tmp_path)["lamp"] == 3


@pytest.mark.parametrize(("key", "ended"), [("k0", JobState.LOST), ("k1", JobState.FAILED)])
def test_a_retry_of_the_batch_leaves_rows_that_were_given_up_and_says_how_many(tmp_path, monkeypatch, key, ended):
    """k0 was paid and given up, or k1's outcome stayed unknown and was given up; k2 failed."""
    monkeypatch.setattr("cli.flow.execute.work", lambda *_: 0)
    (tmp_path / "out").mkdir()
    with contextlib.closing(open_ledger(f"sqlite:///{tmp_path / 'lightfast.db'}")) as ledger:
        shelf.stock(ledger, shelf.rows(3), dest=str(tmp_path / "out"))
        paid, unclear, failed = (row.attempt_id for row in ledger.claims.submits("main", NOW, lease=90).intents)
        refused = {"kind": Kind.PERMANENT, "code": "provider_failed", "message": "no"}
        ledger.facts.record([TaskSucceeded(attempt_id=paid, at=NOW, images=(shelf.made(),), task_id="t")])
        ledger.facts.record([SubmitUnclear(attempt_id=unclear, at=NOW, code="outcome_unknown", message="cut")])
        ledger.facts.record([SubmitRefused(attempt_id=failed, at=NOW, **refused)])
        if ended is JobState.LOST:
            ledger.images.give_up([image.image_id for image in ledger.images.awaited("spring", [key], NOW)], NOW)
        else:
            ledger.unknowns.resolve([unclear], "give-up", NOW)

    said = call("retry", "spring", "--yes").stderr

    assert "1 row that was given up stays so; `retry --key` takes it\n" in said
    assert "retry: 1 row of spring, " in said
    assert (states(tmp_path)[key], states(tmp_path)["k2"]) == (ended, JobState.READY)
    assert "nothing to do in spring: 1 row that was given up stays so" in call("retry", "spring").stderr
    call("retry", "spring", "--key", key, "--yes")
    assert states(tmp_path)[key] is JobState.READY


@pytest.mark.parametrize(("wrong", "told"), [("lampe", "has no row lampe"), ("rug", "tells what row rug of shop asks")])
def test_a_wrong_key_is_named_before_the_question_about_money(tmp_path, wrong, told):
    """Without --yes and a terminal, the question itself would end it."""
    open_shop(tmp_path, tmp_path / "out")

    with pytest.raises(BadInput, match=told):
        call("redo", "shop", "--key", "lamp", "--key", wrong)
