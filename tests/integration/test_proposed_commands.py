"""Each command that a plan proposes is accepted as it stands: pasted, it ends in no refusal."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import sys

import pytest
from typer.testing import CliRunner

from cli.main import app
from jobs.errors import BadInput
from jobs.ledger import open_ledger
from tests.integration.test_manifests_with_known_rows import call, rows, stored_in, write
from tests.support.manifest_world import MAIN, World
from worker.registration.preflight import take

NUMBERED = [f"a lamp {at},A-{at}" for at in range(12)]


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """Batch spring has thirty rows with keys, and batch numbers twelve without: all are made, and lie in one folder."""
    monkeypatch.setenv("MAXAPI_IO_API_KEY", "key")
    with contextlib.closing(open_ledger(f"sqlite:///{tmp_path / 'lightfast.db'}")) as ledger:
        ledger.accounts.sync([MAIN])
        world = World(tmp_path, ledger)
        world.made(rows(30))
        world.made(NUMBERED, "numbers", head="prompt,sku")
    stored_in(tmp_path / "out", tmp_path)
    return tmp_path


def proposed(monkeypatch, *words):
    """The commands on the screen of a plan, by the words before them; `plan` of each in place of `run`."""
    page = call(monkeypatch, "plan", *words)
    lines = (page.stdout + page.stderr).splitlines()
    found = [
        (lines[at - 1].strip(), line.strip()) for at, line in enumerate(lines) if re.match(r" +lightfast run ", line)
    ]
    assert found, page.stderr
    return {why: shlex.split(line)[2:] for why, line in found}


def is_bought_without_asking_more(monkeypatch, words):
    """Whether a script may run this with --yes: nothing is in the way, and it says itself what is bought again."""
    seen = []

    @contextlib.contextmanager
    def looking(options, settings, **known):
        with take(options, settings, **known) as preflight:
            seen.append((preflight.reasons, preflight.mistake))
            yield preflight

    monkeypatch.setattr("worker.registration.preflight.take", looking)
    call(monkeypatch, "plan", *words)
    return seen == [([], "")]


CHANGED = [rows(30)[0] + " now", *rows(29, first=1)]
SOME_GONE = [rows(30)[0] + " now", *rows(2, first=30)]
PLANS = {
    "changed rows": (CHANGED, ["spring.csv"]),
    "changed rows of a budget": (CHANGED, ["spring.csv", "--budget", "50"]),
    "changed rows, and rows that are gone": (SOME_GONE, ["spring.csv"]),
    "rows to be added": (rows(2, first=30), ["spring.csv"]),
    "changed rows among those to be added": (SOME_GONE, ["--append", "spring.csv"]),
    "another name": (rows(30), ["m.csv", "--to", "out"]),
    "another name, and it may be bought again": (rows(30), ["--buy-again", "m.csv", "--to", "out"]),
    "another name, without a destination": (rows(30), ["m.csv", "--to", "out", "--yes"]),
    "another name, with a row that has changed": ([*rows(20), *CHANGED[:1]][1:], ["m.csv", "--to", "out"]),
    "another name, to be added": (rows(12), ["--append", "m.csv", "--to", "out"]),
}


@pytest.mark.parametrize("plan", PLANS)
def test_what_a_plan_proposes_is_accepted_as_it_stands(shop, monkeypatch, plan):
    lines, words = PLANS[plan]
    write(shop, lines, next(word for word in words if word.endswith(".csv")))

    for why, pasted in proposed(monkeypatch, *words).items():
        assert is_bought_without_asking_more(monkeypatch, pasted), (why, pasted)


@pytest.mark.parametrize("lines", [rows(30), rows(2, first=29), rows(2, first=30)])
def test_the_plan_of_a_cancelled_batch_proposes_another_one_and_neither_prices_nor_rows_to_add(
    shop, monkeypatch, lines
):
    write(shop, lines, "spring.csv")
    with contextlib.closing(open_ledger(f"sqlite:///{shop / 'lightfast.db'}")) as ledger:
        ledger.batches.cancel("spring")

    page = call(monkeypatch, "plan", "spring.csv")
    found = list(proposed(monkeypatch, "spring.csv").values())

    assert found == [["spring.csv", "--batch", "spring-2", "--to", str(shop / "out"), "--reuse"]]
    assert "it is cancelled for good: nothing new is paid" in page.stdout
    assert not re.search(r"^(total|again|taken out)\b|nothing to make", page.stdout, re.MULTILINE)
    assert json.loads(call(monkeypatch, "plan", "spring.csv", "--json").stdout)["again"]["instead"] == []
    assert is_bought_without_asking_more(monkeypatch, found[0])


def test_rows_known_by_their_number_that_moved_are_known_by_a_column_from_now_on_and_paid_once(shop, monkeypatch):
    write(shop, [NUMBERED[0], "a new lamp,N-1", *NUMBERED[1:]], "numbers.csv", head="prompt,sku")

    found = proposed(monkeypatch, "numbers.csv")

    (pasted,) = [each for why, each in found.items() if "by sku from now on" in why]
    assert not [each for each in found.values() if "keep" in each], "the images on record are those of other rows now"
    told = json.loads(call(monkeypatch, "plan", *pasted, "--json").stdout)
    assert (told["batch"], told["images"], told["reused"]["images"]) == ("numbers-2", 1, 12)
    assert is_bought_without_asking_more(monkeypatch, pasted)


def test_nothing_is_proposed_that_bad_rows_would_end(shop, monkeypatch):
    write(shop, [*rows(30), "bad,"], "m.csv")

    monkeypatch.setattr(sys, "argv", ["lightfast", "plan", "m.csv", "--to", "out"])
    done = CliRunner().invoke(app, ["plan", "m.csv", "--to", "out"])

    assert done.exit_code == 2
    assert "lightfast run" not in done.stdout + done.stderr
    assert (
        "lightfast run m.csv --to out --skip-bad --reuse"
        in call(monkeypatch, "plan", "m.csv", "--to", "out", "--skip-bad").stdout
    )


def test_a_plan_that_buys_again_says_so_at_its_command(shop, monkeypatch):
    write(shop, rows(30), "m.csv")

    found = proposed(monkeypatch, "m.csv", "--to", "out")

    again = "Nothing was spent. To do it all the same, and pay again for what was made already:"
    assert found[again] == ["m.csv", "--to", "out", "--buy-again"]


EXPORT_HEAD = "Handle,Title,Variant SKU,Image Src"
EXPORT = ["lamp,Lamp,0010,a.jpg", "lamp,,0011,b.jpg", "lamp,,,c.jpg", "vase,Vase,0020,d.jpg"]


@pytest.mark.parametrize("verb", ["plan", "run"])
def test_an_export_as_it_came_is_answered_with_a_plan_that_works_and_never_with_a_purchase(shop, monkeypatch, verb):
    write(shop, EXPORT, "export.csv", head=EXPORT_HEAD)

    with pytest.raises(BadInput) as refused:
        call(monkeypatch, verb, "export.csv", "--to", "out", "--yes")

    told, pasted = str(refused.value).splitlines()[-2:]
    assert "for you to change:" in told
    assert shlex.split(pasted)[1:3] == ["plan", "export.csv"]
    seen = json.loads(call(monkeypatch, *shlex.split(pasted)[1:], "--json").stdout)
    assert (seen["images"], seen["rows"]["skipped"], seen["reasons"]) == (2, 2, [])
    assert [each["key"] for each in seen["samples"]] == ["lamp", "vase"]


def test_variations_of_products_are_told_beside_the_first_plan_and_again_in_it(shop, monkeypatch):
    rows_of_types = ["40,variable,,Lamp,Light", "41,variation,40,Lamp - red,", "45,simple,,Vase,Home"]
    write(shop, rows_of_types, "wc.csv", head="ID,Type,Parent,Name,Categories")
    hint = '1 row is a variation of other products (column "Type"), and would get pictures of their own: --skip-empty'

    with pytest.raises(BadInput) as refused:
        call(monkeypatch, "plan", "wc.csv")
    *_, pasted, told = str(refused.value).splitlines()

    assert told.strip().startswith(hint)
    assert [each for each in call(monkeypatch, *shlex.split(pasted)[1:]).stdout.splitlines() if hint in each]
    assert hint not in call(monkeypatch, *shlex.split(pasted)[1:], "--skip-empty", "Categories").stdout


@pytest.mark.parametrize("to", [["--to", "out"], []])
def test_rows_without_a_prompt_are_left_out_with_one_more_command(shop, monkeypatch, to):
    write(shop, EXPORT, "export.csv", head=EXPORT_HEAD)

    found = proposed(monkeypatch, "export.csv", "--prompt", "A {Title}", *to)

    pasted = found["To leave out rows without Title and know rows by Handle:"]
    added = ["--skip-empty", "Title", "--map", "key=Handle"]
    assert pasted == ["export.csv", "--prompt", "A {Title}", *to, *added, *([] if to else ["--to", "DEST"])]
    assert is_bought_without_asking_more(monkeypatch, pasted)


def test_a_batch_on_record_is_not_given_another_key_with_that_command(shop, monkeypatch):
    write(shop, ["a lamp 0,A-0", ",A-98", ",A-99"], "numbers.csv", head="prompt,sku")

    found = proposed(monkeypatch, "numbers.csv")

    assert found["To leave out rows without prompt:"] == ["numbers.csv", "--skip-empty", "prompt"]


def test_one_row_that_was_forgotten_is_not_proposed_to_be_left_out(shop, monkeypatch):
    write(shop, ["1,Lamp", "2,"], "m.csv", head="sku,Title")

    page = call(monkeypatch, "plan", "m.csv", "--to", "out", "--prompt", "A {Title}")

    assert page.exit_code == 2
    assert "lightfast run" not in page.stdout + page.stderr


HANDLES = "Handle,SKU,prompt"
PRODUCTS = [f"lamp-{at},00{at},a lamp {at}" for at in range(12)]


@pytest.fixture
def by_handle(shop):
    """A batch whose rows are known by their handles."""
    with contextlib.closing(open_ledger(f"sqlite:///{shop / 'lightfast.db'}")) as ledger:
        World(shop, ledger).made(PRODUCTS, "handles", head=HANDLES, mapping={"key": "Handle"})
    stored_in(shop / "out", shop)
    return shop


@pytest.mark.parametrize(
    ("given", "here"),
    [
        ([], 'by their number "1", "2"'),
        (["--map", "key=SKU"], 'by SKU "000", "001"'),
        (["--map=key=SKU"], 'by SKU "000", "001"'),
        (["--map", "key={SKU}-{Handle}"], 'as "000-lamp-0", "001-lamp-1"'),
        (["--prompt", "now {prompt}"], 'by their number "1", "2"'),  # nothing is bought again
    ],
)
def test_rows_under_other_keys_than_at_first_are_told_with_the_column_and_the_command(
    by_handle, monkeypatch, given, here
):
    write(by_handle, [*PRODUCTS, "vase,0099,a vase"], "handles.csv", head=HANDLES)

    page = call(monkeypatch, "plan", "handles.csv", *given).stdout
    found = proposed(monkeypatch, "handles.csv", *given)

    assert f'this batch knows its rows by Handle "lamp-0", "lamp-1"; here they are known {here}' in page
    pasted = found["to know the rows by Handle, as this batch does:"]
    kept = given if "--prompt" in given else []
    assert pasted == ["handles.csv", *kept, "--map", "key=Handle"]
    if not kept:
        assert json.loads(call(monkeypatch, "plan", *pasted, "--json").stdout)["images"] == 1
        assert is_bought_without_asking_more(monkeypatch, pasted)


def test_rows_that_are_added_under_another_column_than_the_batch_has_are_told_before_they_are_bought(
    by_handle, monkeypatch
):
    write(by_handle, ["vase,0099,a vase"], "new.csv", head=HANDLES)
    words = ["new.csv", "--batch", "handles", "--append"]

    found = proposed(monkeypatch, *words, "--map", "key=SKU")

    assert found["to know the rows by Handle, as this batch does:"] == [*words, "--map", "key=Handle"]
    right = call(monkeypatch, "plan", *words, "--map", "key=Handle").stdout
    assert "this batch knows its rows" not in right


def test_keys_that_no_column_tells_are_shown_beside_the_new_ones(shop, monkeypatch):
    write(shop, rows(12, key="x"), "spring.csv")

    page = call(monkeypatch, "plan", "spring.csv").stdout

    assert 'this batch knows its rows as "k0", "k1"; here they are known by key "x0", "x1"' in page
    assert "to know the rows by" not in page


def test_an_export_with_neither_the_key_nor_the_rows_to_leave_out_gets_both_in_one_command(by_handle, monkeypatch):
    write(by_handle, [*PRODUCTS, "lamp-1,0011,", "lamp-1,0012,"], "handles.csv", head=HANDLES)

    found = proposed(monkeypatch, "handles.csv")

    pasted = found["To leave out rows without prompt and know rows by Handle:"]
    assert pasted == ["handles.csv", "--skip-empty", "prompt", "--map", "key=Handle"]
    assert json.loads(call(monkeypatch, "plan", *pasted, "--json").stdout)["images"] == 0
