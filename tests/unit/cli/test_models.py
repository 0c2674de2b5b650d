"""`lightfast models`: what can be made, honest where a figure is not known, and readable at 80 columns."""

from __future__ import annotations

import contextlib
import io
import json
import re
import time

import pytest

from cli.commands.models import models
from jobs.errors import BadInput
from jobs.facts import SubmitAccepted, TaskSucceeded
from jobs.ledger import open_ledger
from providers.catalog.models import Catalog
from tests.support import ROOT, stocked_ledger


def shown(*, columns=80, **options):
    with pytest.MonkeyPatch.context() as patched, contextlib.redirect_stdout(io.StringIO()) as page:
        patched.setenv("COLUMNS", str(columns))
        assert models(**options) == 0
    return page.getvalue()


def document(**options):
    return json.loads(shown(json=True, **options))


@pytest.mark.parametrize("columns", [80, 120])
def test_everything_is_told_without_any_key_and_no_line_is_wider_than_the_screen(columns):
    page = shown(columns=columns)

    assert max(map(len, page.splitlines())) <= columns
    for words in (
        *Catalog.load().models(),
        "maxapi.io",
        "maxapi.dev",
        "apimaster",
        "1 to 10 images a row",
        "3840x2160",
    ):
        assert words in page


def test_what_nobody_has_documented_is_said_to_be_not_known():
    page = shown(model="gpt-image-2", provider="apimaster")

    assert re.search(r"apimaster +1k +not known +40 s", page)
    assert "each at 1k 2k 4k; pixels not known" in " ".join(page.split())
    of_apimaster = document(provider="apimaster")["models"][0]["shapes"]
    assert {shape["usd"] for shape in of_apimaster} == {None}
    assert {shape["price_of"] for shape in of_apimaster} == {None}


def test_a_price_of_the_settings_is_yours(tmp_path):
    (tmp_path / "lightfast.toml").write_text(
        '[accounts.mine]\nprovider = "apimaster"\napi_key = "key-1"\n'
        '[accounts.mine.prices]\n"gpt-image-2" = { 1k = 0.03 }\n'
    )

    assert re.search(r"apimaster +1k +0\.0300 +yours", shown(config=tmp_path / "lightfast.toml"))
    assert "key-1" not in shown(config=tmp_path / "lightfast.toml", json=True)


def test_the_route_mode_of_an_account_is_the_one_that_is_told(tmp_path):
    (tmp_path / "lightfast.toml").write_text(
        '[accounts.mine]\nprovider = "maxapi.dev"\napi_key = "key-1"\nroute_mode = "official-cheap"\n'
    )
    found = document(config=tmp_path / "lightfast.toml", provider="maxapi.dev")["models"]

    assert [one["mode"] for one in found] == ["official-cheap"]
    assert all(shape["usd_is_estimate"] for shape in found[0]["shapes"])


def test_times_are_the_ledgers_own_once_a_few_tasks_have_ended(tmp_path):
    with contextlib.closing(open_ledger(f"sqlite:///{tmp_path / 'lightfast.db'}")) as ledger:
        stocked_ledger.stock(ledger, stocked_ledger.rows(5))
        now = time.time()
        for intent in ledger.claims.submits("main", now, lease=90).intents:
            told = {"attempt_id": intent.attempt_id, "task_id": f"t{intent.attempt_id}"}
            ledger.facts.record([SubmitAccepted(**told, at=now, poll_path=None, next_poll_at=now)])
            ended = TaskSucceeded(**told, at=now + 7, images=(stocked_ledger.made(),), took=(7.0, 7.0))
            ledger.facts.record([ended])

    assert re.search(r"maxapi.io +1k +0.0200 +list +7 s\*", shown(model="gpt-image-2"))
    of_io = next(one for one in document()["models"] if one["provider_model"] == "gpt-image-2/text-to-image")
    learnt = {shape["resolution"]: shape["seconds_are_learnt"] for shape in of_io["shapes"]}
    assert learnt == {"1k": True, "2k": False, "4k": False}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"model": "gpt-image-3"}, "no model 'gpt-image-3'. There are gpt-image-2"),
        ({"provider": "maxapi"}, "no provider 'maxapi'. There are maxapi.io"),
        ({"model": "grok-imagine-pro", "provider": "apimaster"}, "is made by maxapi.io, and not by apimaster"),
    ],
)
def test_a_name_that_there_is_not_is_answered_with_those_that_there_are(options, told):
    with pytest.raises(BadInput, match=told):
        models(**options)


def test_the_document_is_the_catalogue_and_each_of_its_fields_stands_on_the_page():
    found = document()
    assert (found["schema"], found["command"]) == (2, "models")
    one = next(each for each in found["models"] if each["provider_model"] == "gpt-image-2/text-to-image")
    square = next(shape for shape in one["shapes"] if (shape["ratio"], shape["resolution"]) == ("1:1", "2k"))
    assert (square["width"], square["height"], square["usd"], square["price_of"]) == (2048, 2048, 0.04, "list")

    page = (ROOT / "docs" / "reference" / "json.md").read_text()
    section = page[page.index("## What can be made") :]
    named = set(re.findall(r"^\| `models\[\]\.([a-z_.\[\]]+)`", section, re.MULTILINE))
    assert named == {name for each in found["models"] for name in flat(each)}


def flat(value, head=""):
    for name, inner in value.items():
        if isinstance(inner, dict):
            yield from flat(inner, f"{head}{name}.")
        elif inner and isinstance(inner, list) and isinstance(inner[0], dict):
            yield from flat(inner[0], f"{head}{name}[].")
        else:
            yield f"{head}{name}"
