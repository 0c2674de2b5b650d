"""Figures that people agree to money by: each is of what its name says, and of nothing else."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import time
from pathlib import Path

import pytest

from cli.commands import status
from jobs.errors import BadInput
from jobs.facts import ImageLost, SubmitRefused
from jobs.ledger import open_ledger
from jobs.ledger.accounts.durations import TaskKind
from jobs.ledger.accounts.values import AccountLimits, LearntLimits
from jobs.ledger.reports.values import LearntFigures
from jobs.planning.paces import Paces
from jobs.planning.planner import DEFAULT_PATH
from jobs.policy import poll_schedule
from jobs.results import contact_sheet
from jobs.results import story as stories
from jobs.results.rows import bare_address, image_lines, row_values
from providers.catalog.models import Catalog
from providers.types import Kind, Request
from tests.integration.ledger.test_copy_failures import store
from tests.support import stocked_ledger
from tests.support.money_history import accepted, failed, succeeded
from tests.support.shop_ledger import call, document, open_shop

SANDBOX = {
    "LIGHTFAST_SANDBOX": "1",
    "LIGHTFAST_ALLOW_PRIVATE_HOSTS": "1",
    "MAXAPI_IO_API_KEY": "any",
    "MAXAPI_IO_BASE_URL": "http://127.0.0.1:9/maxapi.io",
}


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """A manifest, a ledger, and settings that say that it is all a stand-in."""
    for name, value in SANDBOX.items():
        monkeypatch.setenv(name, value)
    open_shop(tmp_path, tmp_path / "out")
    (tmp_path / "m.csv").write_text("key,prompt\na,A lamp\n")
    return tmp_path


# -- SANDBOX -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [("plan", "m.csv", "--to", "images"), ("status",), ("accounts",), ("status", "--money"), ("unknown",)],
)
def test_settings_that_say_sandbox_are_said_on_every_screen_and_in_every_document(shop, words):
    assert call(*words).stdout.startswith("SANDBOX: ")
    assert document(*words)["sandbox"] is True


def test_a_remark_about_the_stand_in_says_so_without_the_option(shop):
    assert call("pause", "shop").stderr.startswith("SANDBOX ")


def test_made_up_money_is_not_asked_for(shop, monkeypatch):
    """Without --yes, and without a terminal to ask at."""
    monkeypatch.setattr("cli.commands.again.work_here", lambda *_args, **_kwargs: 0)

    assert call("redo", "shop", "--key", "lamp").stderr.startswith("SANDBOX redo: 1 row of shop")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_file_of_keys_is_read_as_its_byte_order_mark_says(shop, monkeypatch, encoding):
    """PowerShell writes UTF-16."""
    monkeypatch.setattr("cli.commands.again.work_here", lambda *_args, **_kwargs: 0)
    Path("keys.txt").write_bytes("lamp\r\n".encode(encoding))

    assert call("redo", "shop", "--keys", "keys.txt").stderr.startswith("SANDBOX redo: 1 row of shop")


def test_real_settings_say_nothing_of_a_sandbox(tmp_path, monkeypatch):
    monkeypatch.setenv("MAXAPI_IO_API_KEY", "k")
    (tmp_path / "m.csv").write_text("key,prompt\na,A lamp\n")

    assert "SANDBOX" not in call("plan", "m.csv", "--to", "images").output
    assert document("plan", "m.csv", "--to", "images")["sandbox"] is False


# -- one batch and the whole ledger ----------------------------------------------------------------------------------


@pytest.fixture
def two_batches(tmp_path):
    """`busy` has three images in flight, `quiet` none."""
    now = time.time()
    with contextlib.closing(open_ledger(f"sqlite:///{tmp_path / 'lightfast.db'}")) as ledger:
        ledger.accounts.sync([stocked_ledger.account()])
        ledger.batches.record_manifest(stocked_ledger.new_batch("busy"), stocked_ledger.rows(3), now=now)
        assert stocked_ledger.claim(ledger, now, horizon=1.0) == 3
        ledger.batches.record_manifest(stocked_ledger.new_batch("quiet"), stocked_ledger.rows(2), now=now)


@pytest.mark.usefixtures("two_batches")
def test_status_of_a_batch_tells_what_is_at_risk_of_it_alone():
    quiet, busy, everything = (document("status", *name)["at_risk"] for name in (("quiet",), ("busy",), ()))

    assert (quiet["images"], busy["images"], everything["images"]) == (0, 3, 3)
    assert busy["usd"] == everything["usd"] == pytest.approx(0.06)
    assert "if everything died now" not in call("status", "quiet").stdout


@pytest.mark.usefixtures("two_batches")
def test_status_of_a_batch_tells_its_own_part_of_what_an_account_has_in_flight():
    quiet, busy = call("status", "quiet").stdout, call("status", "busy").stdout

    assert "main: 0 in flight of this batch" in quiet
    assert "main: 3 in flight of this batch" in busy
    assert all("with all batches: " in text and "3 in flight of 1,000" in text for text in (quiet, busy))


def test_a_batch_is_counted_alone_and_limits_are_learnt_on_either_database(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(3), name="busy")
    assert stocked_ledger.claim(ledger, stocked_ledger.NOW) == 3
    ledger.batches.record_manifest(stocked_ledger.new_batch("quiet"), stocked_ledger.rows(2), now=stocked_ledger.NOW)

    assert [ledger.reports.at_risk(name) for name in ("busy", "quiet", None)] == [(3, 60_000), (0, 0), (3, 60_000)]
    assert [ledger.reports.in_flight(name) for name in ("busy", "quiet")] == [{"main": 3}, {}]
    assert [ledger.reports.progress(name).waits_at for name in ("busy", "quiet")] == [set(), {"maxapi.io"}]
    assert ledger.reports.learnt().limits["main"].provider == "maxapi.io"
    assert ledger.reports.first_death() is None


def test_status_of_a_batch_names_no_account_that_its_rows_do_not_wait_for(tmp_path):
    now = time.time()
    with contextlib.closing(open_ledger(f"sqlite:///{tmp_path / 'lightfast.db'}")) as ledger:
        ledger.accounts.sync([stocked_ledger.account(), stocked_ledger.account(name="other", provider="apimaster")])
        ledger.batches.record_manifest(stocked_ledger.new_batch("quiet"), stocked_ledger.rows(2), now=now)
        elsewhere = dataclasses.replace(stocked_ledger.row(0), provider="apimaster")
        ledger.batches.record_manifest(stocked_ledger.new_batch("busy"), [elsewhere], now=now)
        (intent,) = ledger.claims.submits("other", now, lease=90).intents
        empty = {"kind": Kind.ACCOUNT, "code": "no_balance", "message": "no balance (402)"}
        ledger.facts.record([SubmitRefused(attempt_id=intent.attempt_id, at=now, **empty)])

    assert document("status", "quiet")["paused_accounts"] == []
    assert "no balance" not in call("status", "quiet").stdout
    assert "no balance" in call("accounts").stdout


def test_a_watch_tells_no_time_that_the_batch_did_not_take(tmp_path):
    now = time.time()
    with contextlib.closing(open_ledger(f"sqlite:///{tmp_path / 'lightfast.db'}")) as ledger:
        ledger.accounts.sync([stocked_ledger.account()])
        ledger.batches.record_manifest(stocked_ledger.new_batch("done"), stocked_ledger.rows(1), now=now)
        ledger.batches.cancel("done")

    told = document("watch", "done", code=3)

    assert (told["command"], told["seconds"]) == ("watch", None)
    assert told["message"] == "finished, 0 rows need you."


# -- time ------------------------------------------------------------------------------------------------------------

UNDECLARED = AccountLimits(name="main", provider="maxapi.io")
LIMITS = LearntLimits(
    provider="maxapi.io",
    submits_per_second=12.0,
    max_in_flight=80.0,
    rate_is_met=True,
    in_flight_is_met=True,
    lateness=0.0,
)


@pytest.fixture(scope="module")
def route():
    catalog = Catalog.load()
    request = catalog.complete(Request(prompt="x", model="gpt-image-2"))
    (found,) = [each for each in catalog.routes(request) if each.provider == "maxapi.io"]
    return found


def seconds(route, learnt=None, tasks=1_000, declared=UNDECLARED):
    paces = Paces(declared=[declared], learnt=learnt or LearntFigures())
    pace, work = paces.of("maxapi.io"), tasks * paces.task_seconds(route)
    return pace.seconds(tasks, work), pace.bound_by(tasks, work), pace.may_be_less(tasks, work)


def test_a_plan_counts_with_the_limits_that_the_ledger_has_learnt(route):
    fresh, learnt = seconds(route), seconds(route, LearntFigures(limits={"main": LIMITS}))

    assert fresh == (1_000 * 25 / 4, "max_in_flight 4, to begin with", True)
    assert learnt == (1_000 * 25 / 80, "max_in_flight 80, learnt", False)


def test_what_the_settings_declare_counts_more_than_what_was_learnt(route):
    declared = AccountLimits(name="main", provider="maxapi.io", submits_per_second=1.0, max_in_flight=50)

    assert seconds(route, LearntFigures(limits={"main": LIMITS}), declared=declared) == (
        1_000,
        "submits_per_second 1",
        False,
    )


def test_what_was_learnt_under_the_name_at_another_provider_counts_for_nothing(route):
    other = AccountLimits(name="main", provider="apimaster")

    assert Paces(declared=[other], learnt=LearntFigures(limits={"main": LIMITS})).of("apimaster").in_flight.value == 4


def test_a_plan_counts_with_the_durations_that_the_ledger_has_learnt(route):
    kind = TaskKind(account="main", provider_model=route.provider_model, resolution="1k")
    took = poll_schedule.learn(poll_schedule.Durations(), [poll_schedule.Span(low=2.0, high=2.0)] * 10)
    few = poll_schedule.learn(poll_schedule.Durations(), [poll_schedule.Span(low=2.0, high=2.0)])

    learnt = LearntFigures(limits={"main": LIMITS}, durations={kind: took})

    assert seconds(route, learnt)[:2] == (pytest.approx(1_000 / 12), "submits_per_second 12, learnt")
    assert Paces(declared=[UNDECLARED], learnt=learnt).task_seconds(route) == pytest.approx(2.0, rel=0.03)
    assert Paces(declared=[UNDECLARED], learnt=LearntFigures(durations={kind: few})).task_seconds(route) == 25


def test_the_screen_says_what_bounds_the_time_and_whether_it_may_be_less(tmp_path, monkeypatch):
    monkeypatch.setenv("MAXAPI_IO_API_KEY", "k")
    (tmp_path / "m.csv").write_text("key,prompt\n" + "".join(f"k{n},A lamp\n" for n in range(400)))

    page = call("plan", "m.csv", "--to", "images").stdout

    assert "up to 41 min  max_in_flight 4, to begin with" in page
    assert "Z or sooner if started now" in page
    assert document("plan", "m.csv", "--to", "images")["routes"][0]["seconds_may_be_less"] is True


def test_a_plan_names_accounts_that_take_nothing_now(tmp_path, monkeypatch):
    open_shop(tmp_path, tmp_path / "out")
    monkeypatch.setenv("MAXAPI_IO_API_KEY", "k")
    (tmp_path / "m.csv").write_text("key,prompt\na,A lamp\n")

    assert "account main (maxapi.io) is paused" in call("plan", "m.csv", "--to", "images").stdout


# -- budgets, prices and what images have cost -------------------------------------------------------------------------

REDO = ("m.csv", "--batch", "spring", "--changed", "redo", "--partial")


@pytest.fixture
def changed(tmp_path, monkeypatch):
    """A batch whose two images are there and have cost $0.04, and its manifest with other prompts."""
    for name, value in SANDBOX.items():
        monkeypatch.setenv(name, value)
    with contextlib.closing(open_ledger(f"sqlite:///{tmp_path / 'lightfast.db'}")) as ledger:
        bound = {"dest": str(tmp_path / "out"), "path": DEFAULT_PATH, "sandbox": True}
        stocked_ledger.stock(ledger, stocked_ledger.rows(2), **bound)
        for _ in range(2):
            _image(ledger)
    (tmp_path / "out").mkdir()
    (tmp_path / "m.csv").write_text("key,prompt\nk0,A chair\nk1,A table\n")


@pytest.mark.usefixtures("changed")
def test_a_redo_that_the_budget_leaves_nothing_for_records_nothing():
    planned = call("plan", *REDO, "--budget", "0.05", code=2)
    with pytest.raises(BadInput, match=r"--changed redo needs a budget of at least \$0\.06 for a first image"):
        call("run", *REDO, "--budget", "0.05", "--yes", code=2)

    assert "2 images, $0.04 of budget $0.05, which leaves 0 of them" in planned.stdout
    rows = list(csv.DictReader(io.StringIO(call("results", "spring").stdout)))
    assert [(row["lf_status"], row["lf_images"], row["lf_flags"]) for row in rows] == [("done", "1", "[]")] * 2


@pytest.mark.usefixtures("changed")
def test_a_plan_says_how_many_images_the_budget_leaves():
    told = call("plan", *REDO, "--budget", "0.07").stdout

    assert "2 images, $0.04 of budget $0.07, which leaves about 1 of them" in told


def _listed(ledger):
    (result,) = ledger.reports.results("spring")
    return row_values(result, bare_address)


def _claim(ledger):
    (intent,) = ledger.claims.submits("main", stocked_ledger.NOW, lease=90, at_most=1).intents
    return intent


def _image(ledger, **usage):
    intent = _claim(ledger)
    task = dataclasses.replace(accepted(intent), task_id=f"task-{intent.attempt_id}")
    ledger.facts.record([task, dataclasses.replace(succeeded(intent), **usage)])
    copies, _ = ledger.claims.copies(stocked_ledger.NOW, holder="me", lease=60, at_most=5)
    store(ledger, copies)


@pytest.mark.parametrize("then", ["waits", "cancelled", "made"])
def test_a_row_lists_its_earlier_image_until_the_new_one_is_made(ledger, then):
    stocked_ledger.stock(ledger, stocked_ledger.rows(1))
    _image(ledger)
    before = _listed(ledger)
    ledger.batches.record_manifest(
        stocked_ledger.new_batch(), stocked_ledger.rows(1, prompt="a chair"), redo_changed=True, now=stocked_ledger.NOW
    )
    if then == "cancelled":
        ledger.batches.cancel("spring")
    elif then == "made":
        _image(ledger)

    after = _listed(ledger)
    (result,) = ledger.reports.results("spring")
    (of_image,) = image_lines([result], bare_address)
    (card,) = contact_sheet.cards([result], bare_address, "spring")

    if then == "made":
        assert (after["lf_status"], after["lf_images"], after["lf_flags"]) == ("done", 1, [])
        assert after["lf_urls"] != before["lf_urls"]
    else:
        status = {"waits": "ready", "cancelled": "cancelled"}[then]
        assert (after["lf_status"], after["lf_urls"], after["lf_flags"]) == (status, before["lf_urls"], ["kept"])
        assert (of_image["lf_status"], of_image["lf_url"]) == (status, before["lf_url"])
        assert (card.status, card.picture.address, card.flags) == (status, before["lf_url"], ("kept",))


def test_images_that_were_made_anew_still_tell_what_images_like_them_cost(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(1))
    _image(ledger, cost=1_000)
    (before,) = ledger.reports.learnt().costs.items()
    ledger.batches.record_manifest(
        stocked_ledger.new_batch(), stocked_ledger.rows(1, prompt="a chair"), redo_changed=True, now=stocked_ledger.NOW
    )

    assert dict([before]) == ledger.reports.learnt().costs


def test_a_task_without_images_that_is_counted_as_paid_is_flagged_and_why_says_so(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(1))
    intent = _claim(ledger)
    ledger.facts.record([accepted(intent), failed(intent, code="no_images", charged=True)])
    story = ledger.reports.story("spring", "k0")

    assert _listed(ledger)["lf_flags"] == ["charge_estimated"]
    told = [line for line, _ in stories.tell(story, ledger.batches.find("spring"))]
    assert any("$0.02 charged: what was set aside, for nobody told (charge_estimated)" in line for line in told)


def test_the_sheet_tells_the_money_of_lost_images_beside_their_number_and_no_other(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(2))
    one, other = ledger.claims.submits("main", stocked_ledger.NOW, lease=90).intents
    forgotten = failed(other, forgotten=True)
    ledger.facts.record([accepted(one), succeeded(one), accepted(other), forgotten])
    (due,), _ = ledger.claims.copies(stocked_ledger.NOW, holder="me", lease=60, at_most=5)
    ledger.facts.record([ImageLost(image_id=due.image_id, at=stocked_ledger.NOW, code="link_dead", message="404")])

    head = contact_sheet.head_of(ledger.reports.progress("spring"), {}, now=stocked_ledger.NOW)

    figures = {figure.label: (figure.value, figure.note) for figure in head.figures}
    assert figures["lost"] == ("1", "$0.02")
    assert figures["paid for nothing"][0] == "$0.02"


def test_made_up_money_is_said_to_be_that_beside_the_amount(shop):
    """Not under a headline only: an amount is copied without it."""
    with contextlib.closing(open_ledger(f"sqlite:///{shop / 'lightfast.db'}")) as ledger:
        shown = ledger.reports.progress("shop")
    played = dataclasses.replace(shown, batch=dataclasses.replace(shown.batch, sandbox=True))

    for progress, words in ((shown, "list prices"), (played, "made-up prices")):
        spent = next(
            figure for figure in contact_sheet.head_of(progress, {}, now=0.0).figures if figure.label == "spent"
        )
        assert words in spent.note
        assert f"({words})" in status._money(progress)


def test_what_is_set_aside_for_the_rest_is_called_the_most(shop):
    with contextlib.closing(open_ledger(f"sqlite:///{shop / 'lightfast.db'}")) as ledger:
        ledger.batches.resume("shop", time.time())

    assert "for the rest at most" in call("status", "shop").stdout
    assert "estimated" not in call("status", "shop").stdout
