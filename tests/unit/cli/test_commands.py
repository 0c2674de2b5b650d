"""Commands that screens name are pasted into a shell as they stand, to the end of their line."""

from __future__ import annotations

import dataclasses
import itertools
import re
import shlex
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.commands.unknown import _page
from cli.flow.execute import RunOutcome, summary
from cli.main import COMMANDS, load
from jobs.command_lines import command, keyed
from jobs.ledger.accounts.worker_values import EmergencyStop
from jobs.ledger.batches.values import UnknownAttempt
from jobs.ledger.reports.values import StuckImage
from jobs.results.completion import Reason, RunState
from jobs.results.troubles import troubles
from jobs.states import BatchState, JobState
from tests.support.shop_ledger import call, open_shop
from tests.unit.results.test_contact_sheet import progress
from worker.local.run import RunEnding

ODD = "it's 50% off; -x $HOME `ls`"


def pasted(lines):
    """The commands in these lines, as a shell would start them; each is one that there is, with options it knows."""
    found = []
    for line in lines:
        if match := re.search(rf"(?:^|\s)lightfast (?:{'|'.join(COMMANDS)})\b.*", line):
            program, name, *words = shlex.split(match[0])
            load(name).make_context(name, list(words))  # refuses words too many, and options that it does not have
            found.append([program, name, *words])
    return found


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1), min_size=1))
def test_every_key_reaches_the_command_as_it_is(keys):
    (words,) = [shlex.split(command("retry", "shop", *keyed(*keys)))]

    context = load("retry").make_context("retry", words[2:])

    assert (words[:2], context.params["batch"], context.params["key"]) == (["lightfast", "retry"], "shop", keys)


def attempts(number):
    return [
        UnknownAttempt(
            attempt_id=at, batch="shop", key=f"{ODD} {at}", account="main", provider="maxapi.io",
            provider_model="m", slots=(0,), sent_at=0.0, money=20_000, price_known=True, code=None, message=None,

        )
        for at in range(number)
    ]  # fmt: skip


@pytest.mark.parametrize("number", [1, 9])
def test_what_unknown_names_can_be_pasted(number):
    commands = pasted(line for line, _ in _page(attempts(number), sandbox=False))

    one = ["lightfast", "unknown", "shop", "--key", f"{ODD} 0", "--resolve"]
    assert commands[:3] == [[*one, "found", "--task-id", "ID"], [*one, "pay-again"], [*one, "give-up"]]
    assert commands[3:] == [["lightfast", "unknown", "shop", "--resolve", "give-up"]] * (number > 1)


def test_what_a_run_names_at_its_end_can_be_pasted():
    stuck = (StuckImage(key=ODD, slot=0, code="bytes_unreadable", message="no image", money=20_000),)
    counted = progress(
        jobs={JobState.DONE: 1, JobState.HELD: 2, JobState.FAILED: 3, JobState.READY: 1},
        errors={"provider_failed": 1, "wrong_pixels": 1, "moderation": 1},
        images_unknown=1, images_stuck=2, images_generated=1, stuck=stuck, stop=EmergencyStop(since=0.0, by="mia"),
    )  # fmt: skip
    told = [line for reason in Reason for line in _summary(counted, reason)]

    named = {words[1] for words in pasted([*told, *troubles(counted, [])])}

    assert named == {"results", "retry", "redo", "unknown", "give-up", "resume"}


def _summary(counted, reason):
    ending = RunEnding(reason=reason, standing=RunState(progress=counted, accounts=(), now=0.0))
    return (line for line, _ in summary(RunOutcome(ending=ending, message="why.", code=4, seconds=1.0)))


def test_what_status_and_why_name_can_be_pasted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    open_shop(tmp_path, tmp_path / "out")
    screens = [("status", "shop"), ("unknown",), *(("why", "shop", key) for key in ("lamp", "vase", "sofa", "desk"))]

    lines = itertools.chain.from_iterable(call(*words).stdout.splitlines() for words in screens)

    assert {words[1] for words in pasted(lines)} == {"results", "unknown"}


@pytest.mark.parametrize(
    ("delimiter", "as_it_came"),
    [(None, []), (",", []), (";", ["--delimiter", ";"]), ("\t", ["--delimiter", "tab"]), ("|", ["--delimiter", "|"])],
)
def test_the_end_of_each_run_says_how_the_manifest_is_handed_back(tmp_path, monkeypatch, delimiter, as_it_came):
    """Of a first run as of `redo`, `retry`, next week's run, and a batch that was only watched."""
    monkeypatch.chdir(tmp_path)
    counted = progress(jobs={JobState.DONE: 1}, images_stored=1)
    known = {"columns": ("Handle", "Title", "Image Src"), "created_at": 0.0, "delimiter": delimiter}
    counted = dataclasses.replace(counted, batch=dataclasses.replace(counted.batch, **known))

    def handed_back(now, seconds=1.0):
        ending = RunEnding(reason=Reason.DONE, standing=RunState(progress=counted, accounts=(), now=now))
        told = [line for line, _ in summary(RunOutcome(ending=ending, message="", code=0, seconds=seconds))]
        return [words[3:] for words in pasted(told) if "--columns" in words]

    as_new = ["--columns", "*,-lf_*,New Image=lf_url", "-o", "catalog-import.csv"]
    assert handed_back(now=1.0) == handed_back(now=9_000.0) == handed_back(9_000.0, None) == [[*as_new, *as_it_came]]
    counted = dataclasses.replace(counted, jobs={JobState.DONE: 1, JobState.INVALID: 2})
    assert handed_back(now=1.0)[0] == [*as_new, "--except", "unreadable_row", *as_it_came]
    (tmp_path / "catalog-import.csv").touch()
    assert handed_back(now=9_000.0)[0] == [*as_new, "--overwrite", "--except", "unreadable_row", *as_it_came]


def test_an_export_that_has_new_images_already_is_handed_back_with_a_further_column_of_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    counted = progress(jobs={JobState.DONE: 1}, images_stored=1)
    batch = dataclasses.replace(counted.batch, columns=("Handle", "Title", "New Image"))

    told = _summary(dataclasses.replace(counted, batch=batch), Reason.DONE)

    (columns,) = [words[words.index("--columns") + 1] for words in pasted(told) if "--columns" in words]
    assert columns == "*,-lf_*,New Image 2=lf_url"


@pytest.mark.parametrize(
    ("words", "made_after_all"),
    [
        (
            ["run", "shop.csv", "--map", "key=Handle", "--append", "--batch", "catalog", "--sandbox"],
            ["run", "shop.csv", "--map", "key=Handle", "--sandbox", "--batch", "catalog-2", "--to", "/out", "--reuse"],
        ),
        (
            ["run", "shop.csv", "--path", "{key}.{ext}", "--reuse", "link"],
            ["run", "shop.csv", "--reuse", "link", "--batch", "catalog-2", "--to", "/out"],
        ),
        (["watch", "catalog"], []),
    ],
)
def test_the_end_of_a_cancelled_batch_names_what_makes_its_rows_after_all(monkeypatch, words, made_after_all):
    monkeypatch.setattr(sys, "argv", ["lightfast", *words])
    counted = progress(jobs={JobState.DONE: 5, JobState.CANCELLED: 35})
    batch = dataclasses.replace(counted.batch, dest="/out", state=BatchState.CANCELLED)
    counted = dataclasses.replace(counted, batch=batch)
    ending = RunEnding(reason=Reason.ROWS_NEED_YOU, standing=RunState(progress=counted, accounts=(), now=0.0))

    told = [line for line, _ in summary(RunOutcome(ending=ending, message="", code=3, seconds=1.0), "", "catalog-2")]

    assert [words[1:] for words in pasted(told) if words[1] == "run"] == [made_after_all] * bool(made_after_all)
    assert made_after_all or told[-1].strip() == (
        "35 cancelled rows. To make its rows after all, run its manifest as before with  --batch catalog-2 --reuse  "
        "added: what is stored here is not paid again."
    )


def test_the_end_of_a_run_says_how_bad_rows_are_looked_at(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    counted = progress(jobs={JobState.DONE: 1, JobState.INVALID: 2}, images_stored=1)

    told = [line.strip() for line in _summary(counted, Reason.DONE)]

    look = "lightfast results catalog --only invalid --columns lf_line,lf_message"
    assert f"what is wrong with 2 bad rows of the manifest:  {look}" in told
