"""What a rehearsal with the sandbox says of the questions that the real run will ask."""

from __future__ import annotations

import pytest

from cli.flow.consent import agree, confirm


def told(capsys):
    return capsys.readouterr().err


def test_a_rehearsal_goes_on_and_shows_the_question_that_the_real_run_asks(capsys):
    agree(1_200_000, yes=False, sandbox=True, command="run")
    confirm("Archive 2 batches?", yes=False, sandbox=True, command="prune")

    spend, archive = told(capsys).splitlines()
    assert 'for real this asks "Spend at most $1.20?" first, and without a terminal it needs --yes' in spend
    assert 'for real this asks "Archive 2 batches?" first' in archive


@pytest.mark.parametrize("asked", [{"amount": 1_200_000, "yes": True}, {"amount": 0, "yes": False}])
def test_nothing_is_shown_where_the_real_run_would_not_ask(capsys, asked):
    agree(**asked, sandbox=True, command="run")
    confirm("Archive 2 batches?", yes=True, sandbox=True, command="prune")

    assert told(capsys) == ""
