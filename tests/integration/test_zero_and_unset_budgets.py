"""Zero is nothing, unset is none: of every budget and limit, from the settings to the claim."""

from __future__ import annotations

import contextlib

import pytest
import structlog
from typer.testing import CliRunner

from cli.flow import budgets
from cli.main import app
from cli.output.endings import message
from jobs.errors import BadInput
from jobs.ledger import open_ledger
from jobs.settings.sources import load_settings
from jobs.states import JobState
from tests.support import stocked_ledger as shelf
from tests.support.shop_ledger import call, open_shop
from tests.support.stocked_ledger import NOW
from tests.support.worker_world import PRICE, Provider, row, stock, world
from worker.lanes.worker import Worker
from worker.local.run import Reason, run_batch
from worker.registration.options import BatchOptions, read_limits
from worker.runtime.limits import budget_of, limits_of
from worker.services import build


@pytest.fixture
def keyed(monkeypatch):
    monkeypatch.setenv("MAXAPI_IO_API_KEY", "key-1")
    monkeypatch.setenv("MAXAPI_IO_BASE_URL", "http://127.0.0.1:9")
    return monkeypatch


# -- daily_budget = 0 ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("said", "budget"), [("0", 0), ("0.0", 0), ("1.5", 1_500_000), (None, None)])
def test_a_daily_budget_of_zero_is_one_wherever_it_is_set(keyed, tmp_path, said, budget):
    in_file = "" if said is None else f"daily_budget = {said}\n"
    account = '[accounts.main]\nprovider = "maxapi.io"\napi_key = "k"\n'
    (tmp_path / "lightfast.toml").write_text(f"{in_file}{account}{in_file}")
    by_file = load_settings()
    (tmp_path / "lightfast.toml").write_text(account)
    if said is not None:
        keyed.setenv("LIGHTFAST_DAILY_BUDGET", said)
        keyed.setenv("LIGHTFAST_ACCOUNTS__MAIN__DAILY_BUDGET", said)
    by_environment = load_settings()

    for settings in (by_file, by_environment):
        assert budget_of(settings.daily_budget) == budget
        assert [one.daily_budget for one in limits_of(settings)] == [budget]


@pytest.mark.parametrize("whose", ["account", "overall"])
async def test_under_a_daily_budget_of_zero_nothing_is_sent_and_the_run_says_so(tmp_path, whose):
    services = world(tmp_path, Provider(), daily_budget=0 if whose == "account" else None)
    if whose == "overall":
        object.__setattr__(services.settings, "daily_budget", 0.0)
    stock(services, tmp_path, [row(0), row(1)])

    ending = await run_batch(services, "b", max_stall=0.0)

    assert (ending.exit_code, ending.reason) == (4, Reason.DAY_BUDGET_USED)
    assert "is $0.00: nothing may be spent" in message(ending)
    assert not services.http.submits


def test_a_plan_under_a_daily_budget_of_zero_says_that_the_images_wait(keyed, tmp_path):
    keyed.setenv("LIGHTFAST_DAILY_BUDGET", "0")
    (tmp_path / "more.csv").write_text("key,prompt\na,a lamp\n")

    assert "daily_budget $0.00: nothing may be spent" in call("plan", "more.csv", "--to", "out").stdout


def test_what_has_no_price_is_refused_under_a_daily_budget_of_zero_too(keyed, tmp_path):
    keyed.setenv("APIMASTER_API_KEY", "key-2")
    keyed.setenv("APIMASTER_BASE_URL", "http://127.0.0.1:9")
    keyed.setenv("LIGHTFAST_DAILY_BUDGET", "0")
    (tmp_path / "more.csv").write_text("key,prompt\na,a lamp\n")

    said = call("plan", "more.csv", "--to", "out", "--provider", "apimaster", code=2).stderr

    assert "daily_budget cannot be kept" in said


# -- a price of 0 --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("budget", [{"overall": 0}, {"account": 0}, {"batch": 0}])
def test_what_costs_nothing_fits_a_budget_of_zero_and_what_has_no_price_fits_none(ledger, budget):
    rows = [shelf.priced(shelf.row(0), None), shelf.priced(shelf.row(1), 0), shelf.row(2)]
    ledger.batches.record_manifest(shelf.new_batch(budget=budget.get("batch"), allow_partial=True), [rows[1]], now=NOW)
    ledger.batches.record_manifest(
        shelf.new_batch(name="other", budget=budget.get("batch"), allow_partial=True), [rows[0], rows[2]], now=NOW
    )
    account = shelf.account(daily_budget=budget.get("account"))
    ledger.accounts.sync([account], daily_budget=budget.get("overall"))

    claimed = [intent.key for intent in ledger.claims.submits("main", NOW, lease=90).intents]

    assert claimed == ["k1"]
    assert ledger.reports.progress("other").jobs == {JobState.READY: 2}
    assert ledger.reports.progress("other").has_unpriced
    assert not ledger.reports.progress("spring").has_unpriced


# -- options -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["budget", "max_stall", "stop_after", "priority", "allow_failed"])
def test_an_option_that_is_given_empty_is_no_option_left_out(option):
    """`--budget "$CAP"` of a script whose CAP is not set would spend without a cap."""
    with pytest.raises(BadInput, match="expected"):
        read_limits(BatchOptions(manifest="a.csv", **{option: ""}), attended=True)


@pytest.mark.parametrize(
    ("option", "said", "read"),
    [
        ("max_stall", "0", 0.0),
        ("max_stall", "0m", 0.0),
        ("stop_after", "0", 0.0),
        ("max_stall", None, None),
        ("stop_after", None, None),
        ("budget", None, None),
    ],
)
def test_no_time_is_not_for_ever(option, said, read):
    assert getattr(read_limits(BatchOptions(manifest="a.csv", **{option: said}), attended=True), option) == read


@pytest.mark.parametrize("words", [["--budget", "0"], ["--limit", "0"], ["--n", "0"], ["--priority", "0"]])
def test_a_plan_of_nothing_is_refused_and_not_taken_for_no_limit(keyed, tmp_path, words):
    (tmp_path / "more.csv").write_text("key,prompt\na,a lamp\n")

    with contextlib.suppress(BadInput):
        assert "Nothing was spent" not in call("plan", "more.csv", "--to", "out", *words, code=2).stdout


@pytest.mark.parametrize("said", [{"budget": ""}, {"budget": "0"}])
def test_a_resume_with_an_empty_or_zero_budget_changes_nothing(tmp_path, said):
    open_shop(tmp_path, tmp_path / "out")

    with pytest.raises(BadInput, match="--budget"):
        call("resume", "shop", "--budget", said["budget"])


@pytest.mark.parametrize("name", ["submits_per_second", "polls_per_second", "max_in_flight", "poll_every"])
def test_a_limit_of_zero_stops_the_start_and_is_not_learnt_instead(keyed, name):
    keyed.setenv(f"LIGHTFAST_ACCOUNTS__MAXAPI_IO__{name.upper()}", "0")

    with pytest.raises(BadInput, match=name.upper()):
        load_settings()


def test_retries_and_the_first_poll_may_be_zero(keyed):
    keyed.setenv("LIGHTFAST_RETRIES", "0")
    keyed.setenv("LIGHTFAST_ACCOUNTS__MAXAPI_IO__FIRST_POLL_AFTER", "0")

    settings = load_settings()

    assert settings.retries == 0
    assert settings.accounts["maxapi-io"].first_poll_after == 0


# -- a budget that no worker sees ----------------------------------------------------------------------------------


def test_a_budget_that_is_set_here_and_kept_by_no_worker_is_told_of(keyed, postgres_ledger_url):
    keyed.setenv("LIGHTFAST_DATABASE_URL", postgres_ledger_url)
    keyed.setenv("LIGHTFAST_DAILY_BUDGET", "25")
    keyed.setenv("LIGHTFAST_ACCOUNTS__MAXAPI_IO__DAILY_BUDGET", "0")
    settings = load_settings()
    with contextlib.closing(open_ledger(postgres_ledger_url)) as ledger:
        assert not list(budgets.unkept(settings, ledger, NOW)), "no worker has told anything yet"
        ledger.accounts.sync([shelf.account(name="maxapi-io")], daily_budget=100_000_000)

        overall, account = budgets.unkept(settings, ledger, NOW)
        ledger.accounts.sync(limits_of(settings), daily_budget=budget_of(settings.daily_budget))

        assert "$25.00 in these settings, $100.00 is what workers keep" in overall
        assert "account maxapi-io: $0.00 in these settings, none is what workers keep" in account
        assert not list(budgets.unkept(settings, ledger, NOW))


def test_submit_says_so_before_it_asks(keyed, postgres_ledger_url, tmp_path):
    keyed.setenv("LIGHTFAST_DATABASE_URL", postgres_ledger_url)
    keyed.setenv("LIGHTFAST_DAILY_BUDGET", "25")
    with contextlib.closing(open_ledger(postgres_ledger_url)) as ledger:
        ledger.accounts.sync([shelf.account(name="maxapi-io")])
    (tmp_path / "more.csv").write_text("key,prompt\na,a lamp\n")

    done = CliRunner().invoke(app, ["submit", "more.csv", "--to", str(tmp_path / "out")])

    assert done.exception, "nobody is there to say yes"
    assert "$25.00 in these settings, none is what workers keep" in done.stderr


async def test_a_start_that_changes_what_other_workers_keep_says_so(keyed, postgres_ledger_url):
    keyed.setenv("LIGHTFAST_DATABASE_URL", postgres_ledger_url)
    services = build(load_settings())
    try:
        services.ledger.accounts.sync([shelf.account(name="maxapi-io")], daily_budget=PRICE)
        with structlog.testing.capture_logs() as events:
            await Worker(services).start()
    finally:
        await services.close()

    assert [one for one in events if one["event"] == "daily_budget_changes"] == [
        {"event": "daily_budget_changes", "log_level": "warning", "account": None, "kept": PRICE, "here": None}
    ]
