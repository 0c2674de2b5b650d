"""`pause --all` and `resume --all`, as an operator uses them and as every page tells of them."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest
from starlette.testclient import TestClient

from cli.output.endings import message
from jobs.ledger import open_ledger
from jobs.results.progress import images_to_come, seconds_left
from jobs.states import JobState
from tests.support.shop_ledger import call, document, open_shop
from tests.support.worker_world import Provider, row, stock, world
from web.app import WebLedger, make_metrics_app
from worker.local.run import Reason, run_batch
from worker.runtime import on_the_wire
from worker.runtime.timings import Timings

SOON = Timings(count_every=0.02, idle=0.2)


@pytest.fixture
def shop(tmp_path):
    open_shop(tmp_path, tmp_path / "out")
    return tmp_path


# -- the commands --------------------------------------------------------------------------------------------------


def test_pause_all_says_what_is_on_the_wire_and_twice_is_no_mistake(shop):
    first, again = call("pause", "--all").stderr, call("pause", "--all").stderr

    assert "no batch pays for anything new. To go on:  lightfast resume --all\n" in first
    assert "Nothing is on the wire" in first
    assert "They were already" in again


def test_pause_all_says_what_a_killed_run_left_and_does_not_wait_for_it(tmp_path, monkeypatch):
    open_shop(tmp_path, tmp_path / "out")
    monkeypatch.setattr(on_the_wire, "GIVEN_BACK_WITHIN", 1e9)
    call("accounts", "--probe", "main")
    with contextlib.closing(open_ledger(f"sqlite:///{tmp_path / 'lightfast.db'}")) as ledger:
        claimed = ledger.claims.submits("main", ledger.batches.find("shop").created_at + 3600, lease=90.0).intents

    told = document("pause", "--all")

    assert told["on_the_wire"] == len(claimed) == 1
    assert told["stopped"]["by"]


def test_resume_of_a_batch_does_not_lift_it_and_resume_all_lifts_only_it(shop):
    call("pause", "shop")
    call("pause", "--all")

    assert "all submits are stopped since" in call("resume", "shop").stderr
    assert document("status", "shop")["stopped"]
    call("pause", "shop")
    lifted = call("resume", "--all").stderr

    assert "Submits go on." in lifted
    assert "Still paused, each by itself: shop" in lifted
    assert document("status", "shop")["state"] == "paused"
    assert document("status")["stopped"] is None
    assert "were not stopped" in call("resume", "--all").stderr


def test_who_stopped_and_steered_in_a_terminal_stands_in_the_log_of_tokens(shop):
    words = (["pause", "shop"], ["pause", "--all"], ["resume", "shop"], ["resume", "--all"], ["resume", "--all"])
    for each in (
        *words,
        ["accounts", "--probe", "main"],
        ["unknown", "--resolve", "give-up", "--yes"],
        ["cancel", "shop"],
    ):
        call(*each)

    entries = document("token", "log")["entries"]
    assert [(entry["action"], entry["subject"]) for entry in reversed(entries)] == [
        ("batch pause", "shop"),
        ("emergency stop", None),
        ("batch resume", "shop"),
        ("emergency stop lifted", None),
        ("account probe", "main"),
        ("unknown give-up", "shop"),
        ("batch cancel", "shop"),
    ]
    assert all("@" in entry["who"] for entry in entries)


@pytest.mark.parametrize(
    "words", [["pause"], ["pause", "shop", "--all"], ["resume", "shop", "--all"], ["resume", "--all", "--budget", "5"]]
)
def test_all_and_a_batch_are_not_given_together_and_not_left_out(shop, words):
    with pytest.raises(Exception, match="--all"):
        call(*words)


def test_every_page_tells_of_the_stop(shop, monkeypatch):
    monkeypatch.setenv("MAXAPI_IO_API_KEY", "key-1")
    monkeypatch.setenv("MAXAPI_IO_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("LIGHTFAST_ALLOW_PRIVATE_HOSTS", "1")
    call("pause", "--all")

    said = "all submits are stopped since"
    assert said in call("status").stdout
    assert said in call("status", "shop").stdout
    assert said in call("accounts").stdout
    assert document("accounts")["stopped"] == document("status", "shop")["stopped"]
    findings = json.loads(call("doctor", "--json", code=1).stdout)["findings"]
    assert [one["verdict"] for one in findings if one["what"] == "stop"] == ["problem"]
    with TestClient(make_metrics_app(WebLedger(lambda: open_ledger(f"sqlite:///{shop / 'lightfast.db'}")))) as client:
        assert "lightfast_stopped 1.0" in client.get("/metrics").text
    call("resume", "--all")
    assert said not in call("status").stdout + call("accounts").stdout


@pytest.mark.parametrize("words", [["plan"], ["run"], ["run", "--quiet"]])
def test_a_new_plan_or_run_says_so_before_it_asks(shop, monkeypatch, words):
    monkeypatch.setenv("MAXAPI_IO_API_KEY", "key-1")
    monkeypatch.setenv("MAXAPI_IO_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("LIGHTFAST_ACCOUNTS__MAIN__PROVIDER", "maxapi.io")
    monkeypatch.setenv("LIGHTFAST_ACCOUNTS__MAIN__API_KEY", "key-1")
    (shop / "more.csv").write_text("key,prompt\na,a lamp\n")
    call("pause", "--all")

    verb, *how = words
    if verb == "plan":
        said = call(verb, "more.csv", "--to", "more", *how).stderr
    else:
        said = _refused(verb, "more.csv", "--to", "more", *how)  # nobody is there to say yes

    assert "all submits are stopped since" in said


def _refused(*words) -> str:
    from typer.testing import CliRunner  # noqa: PLC0415  slow to import  beside its use

    from cli.main import app  # noqa: PLC0415  slow to import

    done = CliRunner().invoke(app, list(words))
    assert done.exception
    assert not done.stdout
    return done.stderr


# -- a run under it ------------------------------------------------------------------------------------------------


async def test_a_run_that_is_stopped_stores_what_is_paid_and_ends_with_4_after_max_stall(tmp_path):
    provider = Provider(on_submit=lambda _: stop_after_three(provider, tmp_path))
    services = world(tmp_path, provider, timings=SOON, submits_per_second=1.0)
    stock(services, tmp_path, [row(number) for number in range(40)])
    seen = []

    ending = await run_batch(services, "b", max_stall=0.0, on_progress=lambda progress, _: seen.append(progress))

    assert (ending.exit_code, ending.reason) == (4, Reason.ALL_PAUSED)
    assert message(ending).startswith("all submits are stopped since ")
    sent = sum(provider.submits.values())
    assert ending.progress.images_stored == sent < 40
    assert ending.progress.jobs[JobState.READY] == 40 - sent
    assert images_to_come(seen[-1])
    assert seconds_left(seen[-1], [], services.clock.now()) is None, "no time is promised"


async def stop_after_three(provider, tmp_path):
    if sum(provider.submits.values()) == 1:
        url = f"sqlite:///{tmp_path / 'ledger.db'}"
        await asyncio.to_thread(_stop, url)


def _stop(url):
    with contextlib.closing(open_ledger(url)) as ledger:
        ledger.emergency_stop.begin(ledger.batches.find("b").created_at, "mia@shop")
