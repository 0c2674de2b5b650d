"""`status --money` and `audit`: sums that come out, and an invoice that is explained."""

from __future__ import annotations

import csv
import io
import json
import re
import sqlite3
from contextlib import closing

import pytest
from typer.testing import CliRunner

from cli.main import app
from jobs.errors import BadInput
from tests.support.ledger_files import new_ledger
from tests.support.money_history import live


@pytest.fixture(autouse=True)
def ledger(tmp_path):
    new_ledger(tmp_path / "lightfast.db", live)
    with closing(sqlite3.connect(tmp_path / "lightfast.db")) as connection, connection:
        connection.execute("UPDATE batches SET dest = ?", (str(tmp_path),))  # where it is on record is no folder


def call(*words):
    done = CliRunner().invoke(app, words)
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


@pytest.mark.parametrize("batch", [[], ["spring"]])
def test_the_tables_of_money_add_up_as_they_are_shown(batch):
    lines = call("status", *batch, "--money").stdout.splitlines()

    rows = [[float(amount) for amount in re.findall(r"\d+\.\d+", line)] for line in lines if line.startswith(_OF)]
    assert len(rows) == 2 * 4
    for whole, *parts in rows:
        assert whole == pytest.approx(sum(parts), abs=1e-9)
    assert rows[0] == [0.40, 0.06, 0.06, 0.02, 0.26]
    assert rows[4] == [0.26, 0.02, 0.10, 0.06, 0.04, 0.02, 0.02]
    assert "1 image came at a price nobody knows" in "\n".join(lines)


_OF = ("all ", "batch ", "account ", "provider ")


def test_the_money_as_a_document():
    document = json.loads(call("status", "--money", "--json").stdout)

    (everything, *_) = document["money"]
    assert document["closes"]
    assert (everything["of"], everything["undelivered"], everything["given_up"]) == ("all", 0.02, 0.02)
    assert [part["name"] for part in document["money"][1:]] == ["spring", "main", "maxapi.io"]


def test_an_audit_is_one_line_an_attempt(tmp_path):
    done = call("audit", "spring", "--account", "main", "--since", "2027-01-15", "--until", "2027-01-16")

    lines = list(csv.DictReader(io.StringIO(done.stdout)))
    assert len(lines) == 16
    first = {name: lines[0][name] for name in ("key", "provider", "task_id", "state", "images_delivered", "charged")}
    assert list(first.values()) == ["k0", "maxapi.io", "task-k0", "succeeded", "1", "0.02"]
    assert (lines[0]["currency"], lines[0]["intended_at"]) == ("USD", "2027-01-15T08:00:00Z")
    assert (lines[15]["charged"], lines[15]["images_delivered"]) == ("", "1"), "nobody knows what it cost"
    assert "16 attempts" in done.stderr


@pytest.mark.parametrize(("invoice", "told"), [("0.20", "explained: by what"), ("3.50", "not explained: $3.16 above")])
def test_the_difference_to_an_invoice_is_explained(invoice, told, tmp_path):
    done = call("audit", "--invoice", invoice, "-o", str(tmp_path / "a.jsonl"))

    assert done.stdout == ""
    assert "invoice" in done.stderr
    assert told in done.stderr
    assert "may be paid: 1 attempt, lightfast unknown" in done.stderr
    assert len((tmp_path / "a.jsonl").read_text().splitlines()) == 16


def test_an_audit_as_a_document(tmp_path):
    document = json.loads(call("audit", "--invoice", "1", "--json", "-o", str(tmp_path)).stdout)

    assert (document["attempts"], document["charged"], document["invoice"]["not_explained"]) == (16, 0.26, 0.66)
    assert (tmp_path / "audit.csv").exists()


@pytest.mark.parametrize("code", ["not_sent", "unreachable"])
def test_an_attempt_that_never_left_is_not_called_refused(tmp_path, code):
    """The history has one attempt that the provider refused; one that failed without a charge becomes another kind."""
    unsent = "UPDATE attempts SET state = 'refused', error_code = ? WHERE error_code = 'no_images' AND charged = 0"
    with closing(sqlite3.connect(tmp_path / "lightfast.db")) as connection, connection:
        connection.execute(unsent, [code])

    done = call("audit", "spring")

    states = {line["code"]: line["state"] for line in csv.DictReader(io.StringIO(done.stdout))}
    assert (states[code], states["invalid_parameters"]) == ("not_sent", "refused")
    assert (
        "1 attempt never reached a provider (state not_sent): nothing was sent, so nothing was refused" in done.stderr
    )
    told = call("audit", "spring", "--json", "-o", str(tmp_path / "b.csv")).stdout
    assert json.loads(told)["attempts_not_sent"] == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["audit", "summer"], "no batch 'summer'"),
        (["audit", "--account", "mian"], "no account 'mian'"),
        (["audit", "--since", "yesterday"], "expected a UTC day"),
        (["audit", "--invoice", "much"], "an amount in USD"),
        (["audit", "--format", "html"], "csv, jsonl"),
        (["audit", "--json"], "needs -o FILE"),
        (["status", "summer", "--money"], "no batch 'summer'"),
    ],
)
def test_what_is_wrong_is_told(words, said):
    with pytest.raises(BadInput, match=said):
        call(*words)


def test_another_budget_is_asked_for_before_anything_goes_on():
    with pytest.raises(BadInput, match=r"resume would spend at most \$0\.0"):
        call("resume", "spring", "--budget", "1")
