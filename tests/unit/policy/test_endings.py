"""Every ending of a submit has its class; the page, the table and the dialects say the same."""

from __future__ import annotations

import re

import pytest

from jobs.policy.endings import OF_KIND, REACTIONS, SILENCES, Ending, Silence, unanswered
from jobs.states import ATTEMPT_STEPS, AttemptState
from providers.registry import PROVIDERS
from providers.types import Accepted, Delivered, Kind, Refused
from tests.support import ROOT
from tests.support.dialect_shapes import answer, read_submit

PAGE = (ROOT / "docs" / "reference" / "endings.md").read_text()
BODIES = (b"", b"<html>no</html>", b'{"error":null}', b"[1]")


def table(heading):
    """The cells of the table below a heading, without backticks."""
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[1:]]


def bare(cell):
    return cell.replace("`", "").strip(" |")


def ending(outcome):
    if isinstance(outcome, Accepted | Delivered):
        return Ending.ACCEPTED
    return OF_KIND[outcome.kind] if isinstance(outcome, Refused) else Ending.AMBIGUOUS


def test_the_page_tells_what_follows_each_class():
    told = [[bare(cell) for cell in row] for row in table("What follows")]

    assert told == [
        [name, reaction.attempt, reaction.row, reaction.cooldown, "yes" if reaction.elsewhere else "no"]
        for name, reaction in REACTIONS.items()
    ]


def test_every_class_every_kind_and_every_silence_is_in_the_table():
    assert set(REACTIONS) == set(Ending)
    assert set(OF_KIND) == set(Kind)
    assert set(SILENCES) == set(Silence)
    assert {reaction.attempt for reaction in REACTIONS.values()} <= ATTEMPT_STEPS[AttemptState.SUBMITTING]


def test_the_page_tells_what_no_answer_means():
    assert [(bare(row[0]), bare(row[2])) for row in table("No answer")] == list(SILENCES.items())


def test_the_mark_alone_decides_what_silence_means():
    assert SILENCES[unanswered(sent=False)] is Ending.REFUSED
    assert SILENCES[unanswered(sent=True)] is Ending.AMBIGUOUS


def test_only_what_nobody_can_know_is_held_and_only_what_surely_cost_nothing_goes_anywhere_again():
    for name, reaction in REACTIONS.items():
        assert (reaction.row == "is held") == (name is Ending.AMBIGUOUS)
        if reaction.row == "goes again" or reaction.elsewhere:
            assert reaction.attempt is AttemptState.REFUSED
    assert not REACTIONS[Ending.MODERATION].elsewhere


def statuses(provider="any other"):
    """Class and code by status; one provider has a column where it differs."""
    told = {}
    for status, usual, *differs in table("By status"):
        cell = differs[0] if differs and differs[0] and provider == "maxapi.dev" else usual
        told[int(status)] = tuple(re.findall(r"`([\w]+)`", cell))
    return told


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("status", sorted(statuses()))
def test_each_status_is_classed_as_the_page_says(status, provider):
    for body in BODIES:
        outcome = read_submit(provider, answer(body, status))

        assert (ending(outcome), outcome.code) == statuses(provider)[status]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_every_other_3xx_and_4xx_is_a_refusal_and_every_other_5xx_is_not(provider):
    told = statuses(provider)
    for status in range(300, 600):
        like = {3: 302, 4: 400, 5: 500}[status // 100] if status not in told else status
        outcome = read_submit(provider, answer(b"", status))

        assert ending(outcome) == told[like][0], status
        assert isinstance(outcome, Refused) == (status < 500 and status != 408), status


@pytest.mark.parametrize("row", table("By body"), ids=lambda row: f"{row[0]} {row[1]} {bare(row[2])[:30]}")
def test_each_body_is_classed_as_the_page_says(row):
    provider, status, body, kind, code = (bare(cell) for cell in row)

    outcome = read_submit(provider, answer(body.encode(), int(status)))

    assert ending(outcome) == kind
    assert getattr(outcome, "code", "") == code


def test_at_every_provider_a_2xx_without_a_task_and_an_odd_code_are_on_the_page():
    told = {(bare(row[0]), bare(row[4])) for row in table("By body") if bare(row[3]) == "ambiguous"}

    shown = {bare(row[0]) for row in table("By body")}
    assert {(provider, code) for provider in shown for code in ("no_task_id", "unreadable_answer")} <= told
    assert {("maxapi.io", "unexpected_code"), ("apimaster", "unexpected_code")} <= told
