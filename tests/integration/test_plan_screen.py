"""What `plan` shows: the day it names, one line a model where there are many routes, and nothing that hangs over."""

from __future__ import annotations

import json
import re
import sqlite3
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cli.flow.plan_screen import MANY
from tests.support.shop_ledger import call, document, open_shop

RATIOS = ("1:1", "3:2", "2:3", "4:3", "3:4", "5:4", "4:5", "16:9", "9:16")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MAXAPI_IO_API_KEY", "key-of-a-test")
    return tmp_path


def write(rows):
    lines = [f"k{number},A lamp,{ratio},{size}" for number, (ratio, size) in enumerate(rows)]
    Path("m.csv").write_text("\n".join(["key,prompt,ratio,resolution", *lines]) + "\n")


def table(text):
    return [line for line in text.splitlines() if re.match(r"  maxapi\.io ", line)]


def test_many_routes_of_one_model_are_one_line_whose_sums_are_theirs_and_all_shows_each():
    write([(ratio, size) for ratio in RATIOS for size in ("1k", "2k")])

    said, every, told = (
        call("plan", "m.csv", "--to", "out").stdout,
        call("plan", "m.csv", "--all").stdout,
        document("plan", "m.csv"),
    )

    (line,) = table(said)
    assert re.search(r"gpt-image-2 +18 +18 shapes +0\.0200-0\.0400 +0\.54 ", line)
    assert "18 routes, in 1 line" in said
    assert len(table(every)) == len(told["routes"]) == 18 > MANY
    assert "shapes" not in every


def test_a_few_routes_have_a_line_each():
    write([(ratio, "1k") for ratio in RATIOS])

    assert len(table(call("plan", "m.csv").stdout)) == len(RATIOS) <= MANY


def test_the_time_when_all_is_ready_has_its_date():
    write([("1:1", "1k")])

    said = call("plan", "m.csv").stdout

    day = datetime.fromtimestamp(time.time() + 120, UTC).strftime("%a %Y-%m-%d")
    assert re.search(rf"ready about {day} \d\d:\d\dZ", said) or time.time() % 86_400 > 86_100


def test_no_line_of_a_screen_ends_with_spaces(folder):
    write([("1:1", "1k")])
    open_shop(folder, folder / "out")
    screens = ["plan m.csv", "status", "status shop", "status --money", "accounts", "unknown", "why shop sofa"]

    for words in screens:
        lines = call(*words.split()).stdout.splitlines()
        assert [line for line in lines if line != line.rstrip() or "\t" in line] == [], words


def test_a_plan_says_how_the_file_is_read_and_how_many_empty_rows_it_has():
    Path("m.csv").write_text('"PRICE LIST";;\n;;\nCODE;;NAME\n001;;oak table\n;;\n;;\n')
    options = ["m.csv", "--map", "key= CODE", "--prompt", "Photo of {NAME }"]

    said, told = call("plan", *options).stdout, document("plan", *options)
    named = document("plan", *options, "--header-row", "3")

    assert (
        "1 row: 1 new, 0 changed, 0 done, 0 bad; 2 empty rows left out      semicolon, header on line 3, UTF-8" in said
    )
    assert (told["rows"]["all"], told["rows"]["empty"]) == (1, 2)
    assert told["read_as"] == named["read_as"] == "semicolon, header on line 3, UTF-8"


def test_what_is_wrong_with_many_rows_is_told_once_and_each_of_them_with_all():
    Path("m.csv").write_text("key,prompt\n" + ",A lamp\n" * 133)

    said, every = (call("plan", "m.csv", *more, code=2) for more in ([], ["--all"]))

    (line,) = [line for line in said.stdout.splitlines() if "a key is needed" in line]
    assert line.startswith("bad (133)")
    assert line.endswith("(and 132 more rows: line 3, line 4, line 5 …)")
    assert every.stdout.count("a key is needed") == 100
    assert "… 133 in all" in every.stdout


def test_rows_that_ask_for_the_same_are_told_before_money():
    Path("m.csv").write_text("key,Title\n" + "".join(f"k{at},Lamp\n" for at in range(80)))

    said = call("plan", "m.csv", "--prompt", "A {Title}").stdout

    (line,) = [line for line in said.splitlines() if line.startswith("same ")]
    assert line.endswith('(up to $1.58) ask for exactly what another row asks for; 80 say "A Lamp": lines 2, 3, 4 …')


@pytest.mark.parametrize(("quality", "left"), [("", "at least about "), ("high", "about ")])
def test_a_budget_leaves_more_images_than_its_estimate_says_where_that_is_the_most(monkeypatch, quality, left):
    monkeypatch.setenv("MAXAPI_DEV_API_KEY", "key-of-a-test")
    Path("m.csv").write_text("key,prompt,quality\n" + "".join(f"k{at},Lamp {at},{quality}\n" for at in range(30)))

    said = call("plan", "m.csv", "--provider", "maxapi.dev", "--budget", "0.05", "--partial", "--to", "out").stdout

    assert re.search(rf"of budget \$0\.05, which leaves {left}\d+ of them", said)


def of_the_shop(folder, statement, *values):
    """The shop's batch, changed so, and a manifest of a row that waits in it."""
    open_shop(folder, folder / "out")
    with closing(sqlite3.connect(folder / "lightfast.db")) as connection, connection:
        connection.execute("UPDATE batches SET path = '{batch}/{key}/{index}.{ext}'")
        connection.execute(statement, values)
    Path("m.csv").write_text("key,prompt\ndesk,A desk\n")


def test_a_plan_of_a_paused_batch_says_so_and_what_ends_it(folder):
    of_the_shop(folder, "UPDATE batches SET state = 'paused', reason = 'too many rows fail'")

    told, known = (call("plan", "m.csv", "--batch", "shop", "--append", *more).stdout for more in ([], ["--json"]))

    paused = "it is paused (too many rows fail), and nothing new is paid until:  lightfast resume shop"
    assert paused in [line.strip() for line in told.splitlines()]
    assert json.loads(known)["batch_state"] == "paused"


@pytest.mark.parametrize(("budget", "is_told"), [("0.50", True), ("0.57", False), ("0.60", False)])
def test_a_budget_below_what_the_batch_was_given_since_is_told_before_it_takes_its_place(folder, budget, is_told):
    of_the_shop(folder, "UPDATE batches SET budget = 570000")

    told = call("plan", "m.csv", "--batch", "shop", "--append", "--budget", budget, "--partial").stdout

    lowered = "--budget $0.50 takes the place of $0.57, which this batch may spend so far"
    assert (lowered in told) == is_told


def test_rows_that_were_redone_with_prompts_of_their_own_are_told_before_the_manifests_takes_their_place(
    folder, monkeypatch
):
    open_shop(folder, folder / "out")
    monkeypatch.setattr("cli.commands.again.work_here", lambda *_, **__: 0)
    call("redo", "shop", "--key", "lamp", "--prompt", "Mine", "--yes")
    with closing(sqlite3.connect(folder / "lightfast.db")) as connection, connection:
        connection.execute("UPDATE images SET attempt_id = (SELECT min(id) FROM attempts) WHERE revision = 2")  # sent
        connection.execute("UPDATE batches SET path = '{batch}/{key}/{index}.{ext}'")
    Path("m.csv").write_text("key,prompt,n\nlamp,Another lamp,2\n")
    words = ("plan", "m.csv", "--batch", "shop", "--append", "--changed")

    assert (
        "own prompts    1 row has changed; 1 of these rows was redone with a prompt of its own (redo --prompt): "
        in (call(*words, "redo").stdout)
    )
    assert "of its own" not in call(*words, "keep").stdout
    assert "1 of these rows was redone with a prompt of its own" in call(*words, "error", code=2).stderr
