"""`why`, `unknown`, `status` and `accounts` on a ledger that has lived through a little of everything."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import subprocess
import sys
import time

import pytest

from cli.flow.session import open_session
from jobs.errors import BadInput, LightfastError
from jobs.facts import (
    ImageDelayed,
    MadeImage,
    SubmitUnclear,
    TaskSucceeded,
)
from jobs.ledger import open_ledger
from jobs.ledger.accounts.values import AccountLimits
from jobs.ledger.accounts.worker_values import DestinationTrouble
from jobs.ledger.reports.values import Event
from jobs.results import story as stories
from jobs.results.story import tell
from jobs.states import TroubleKind
from providers.types import Link, NotFound, Running
from tests.support import stocked_ledger
from tests.support.patience import AT_LAST
from tests.support.shop_ledger import call, document, open_shop


@pytest.fixture
def dest(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def told(tmp_path, dest):
    open_shop(tmp_path, dest)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "told_so"),
    [
        (("results", "shpo"), "Did you mean shop"),
        (("results", "shop", "--format", "xml"), "csv, jsonl, parquet, xlsx, html"),
        (("results", "shop", "-o", "done.ods"), '".ods"'),
        (("results", "shop", "--per", "pixel"), "row, image"),
        (("results", "shop", "--only", "dome"), "done"),
        (("results", "shop", "--presign", "8d"), "at most 7d"),
        (("results", "shop", "--presign", "1h"), "is a folder"),
        (("results", "shop", "-o", "nowhere/x.csv"), "no folder nowhere"),
        (("results", "shop", "--json"), "-o FILE"),
        (("why", "shop", "lapm"), "Did you mean lamp"),
        (("unknown", "--key", "sfoa"), "Did you mean sofa"),
        (("retry", "shop", "--key", "vsae", "--yes"), "Did you mean vase"),
        (("unknown", "shop", "--resolve", "ignore"), "pay-again, give-up, found"),
        (("unknown", "shop", "--resolve", "found"), "--task-id"),
        (("unknown", "shop", "--resolve", "pay-again"), "--yes"),
        (("accounts", "--probe", "mian"), "Did you mean main"),
        (("retry", "shop", "--error", "modertion"), "Did you mean moderation"),
    ],
)
def test_wrong_words_end_with_2_and_name_what_is_legal(told, words, told_so):
    with pytest.raises(LightfastError) as refused:
        call(*words)

    assert refused.value.exit_code == 2
    assert told_so in str(refused.value)


def test_without_a_ledger_nothing_is_made(tmp_path):
    with pytest.raises(BadInput, match="no ledger"):
        call("status")

    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", [("results", "shop"), ("status",)])
def test_a_reader_that_has_seen_enough_is_no_mistake(told, words):
    environment = {**os.environ, "LIGHTFAST_DEBUG": "1"}
    command = [sys.executable, "-c", "from cli.main import main; main()", *words]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        command, stdout=writing, stderr=subprocess.PIPE, env=environment, check=False, timeout=AT_LAST
    )
    os.close(writing)

    assert (done.returncode, done.stderr.decode()) == (0, "")


def test_why_tells_a_history_in_order_with_tasks_and_money(told):
    text = call("why", "shop", "lamp").stdout

    order = [
        "lamp: done",
        "A lamp",
        "attempt 1: on its way to maxapi.io",
        "in `lightfast audit`)",
        "provider task task-0",
        "image 0 stored",
        "$0.04",
    ]
    places = [text.index(part) for part in order]
    assert places == sorted(places)


def test_why_of_an_unknown_one_says_what_a_person_can_do(told):
    text = call("why", "shop", "sofa").stdout

    told = "the connection broke before a whole answer came (it broke [red])"
    assert f"nobody can know whether it was accepted: {told}" in text
    assert "lightfast unknown shop --key sofa" in text
    assert "\x1b" not in text


def test_a_task_that_is_found_after_all_is_taken_though_its_row_was_given_up(told):
    call("unknown", "shop", "--key", "sofa", "--resolve", "give-up")
    found = ("unknown", "shop", "--key", "sofa", "--resolve", "found", "--task-id", "T-1", "--yes")

    told_so = call(*found).stderr

    assert "1 attempt adopted" in told_so
    assert "the provider's task was found" in call("why", "shop", "sofa").stdout
    with pytest.raises(BadInput, match="no such attempt"):  # it has its task
        call(*found)


def test_why_tells_decisions_and_failed_copies_in_plain_words():
    told = {"name": "resolved", "detail": {"how": "give-up", "task_id": None}, "attempt_id": 7, "at": 0.0}
    redo = {"name": "redo", "detail": {"revision": 2, "prompt_before": "A lamp"}, "attempt_id": None, "at": 0.0}

    assert stories._of_event(Event(**told), {7: 1}, "")[1] == "attempt 1: on a person's word it counts as given up"
    assert stories._of_event(Event(**redo), {}, "A lamp")[1] == "made anew on your word (revision 2)"
    assert 'the prompt was "A lamp"' in stories._of_event(Event(**redo), {}, "A red lamp")[1]
    assert [stories._th(number) for number in (2, 3, 4, 11, 21)] == ["2nd", "3rd", "4th", "11th", "21st"]


def test_why_of_a_moderated_one_does_not_offer_to_pay_for_the_same_again(told):
    text = call("why", "shop", "vase").stdout

    assert "certainly not accepted: moderation: rejected: public figure; nothing charged" in text
    assert "retry" not in text


def test_why_tells_even_of_a_row_that_was_left_out(told):
    assert "rug: skipped" in call("why", "shop", "rug").stdout


def test_why_as_a_document(told):
    told_of = document("why", "shop", "lamp")

    assert told_of["status"] == "done"
    assert {attempt["task_id"] for attempt in told_of["attempts"]} == {"task-0", "task-1"}


def test_status_of_a_batch_tells_counts_money_risk_and_pauses(told):
    text = call("status", "shop").stdout

    for part in (
        "2 of 5 stored",
        "1 done, 1 failed, 1 skipped, 1 waiting for their turn",
        "1 moderation",
        "$0.04 spent of $1.00",
        "if everything died now: 1 image, $0.02",
        "nobody works on it now",
        "main (maxapi.io) is paused until ",
        " more: no balance (402)",
        "lightfast unknown shop",
    ):
        assert part in text.replace("1 held, ", "")


def test_status_tells_why_submits_wait_and_how_much_time_the_tightest_image_has_to_spare(told, dest):
    now = time.time()
    with contextlib.closing(open_ledger(f"sqlite:///{dest.parent / 'lightfast.db'}")) as ledger:
        refuses = DestinationTrouble(
            dest=ledger.batches.find("shop").dest,
            kind=TroubleKind.REFUSES,
            since=now,
            code="bucket_denied",
            message="403 AccessDenied, s3:PutObject",
        )
        ledger.destinations.say_troubles("host:7", [refuses], now)

    text = call("status", "shop").stdout
    (reason,) = document("status", "shop")["submits_wait"]

    assert "submits wait, and go on by themselves" in text
    assert "refuses writes since" in text
    assert "(bucket_denied: 403 AccessDenied, s3:PutObject; said by host:7)" in text
    assert (reason["kind"], reason["code"]) == ("refuses", "bucket_denied")


def test_status_of_all_batches(told):
    assert "shop   active" in call("status").stdout
    (batch,) = document("status")["batches"]
    assert batch["rows"] == {"done": 1, "failed": 1, "held": 1, "skipped": 1, "ready": 1}
    assert document("status", "shop")["usd"]["unknown"] == 0.02


def test_unknown_lists_the_money_at_risk_and_the_ways_out(told):
    text = call("unknown").stdout

    assert "key sofa was sent to maxapi.io at" in text
    lines = [line.strip() for line in text.splitlines()]
    for way in ("found --task-id ID", "pay-again", "give-up"):  # alone on a line: a shell takes | and ( for its own
        assert f"lightfast unknown shop --key sofa --resolve {way}" in lines
    assert "pay again ($0.02)" in text


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("pay-again", "--yes"), "ready"),
        (("give-up",), "failed"),
        (("found", "--task-id", "T1", "--yes"), "working"),
    ],
)
def test_an_unknown_one_is_resolved_at_a_persons_word(told, words, status):
    call("unknown", "shop", "--key", "sofa", "--resolve", *words)

    assert document("unknown")["unknown"] == []
    assert document("why", "shop", "sofa")["status"] == status


def test_accounts_say_what_is_declared_and_why_one_rests_until_it_is_probed(told):
    text = call("accounts").stdout
    assert re.search(r"paused until .* more: no balance \(402\)", text)

    call("accounts", "--probe", "main")

    (account,) = document("accounts")["accounts"]
    assert account["paused"] is False
    assert account["submits_per_second"] == 50.0


def test_rows_that_any_account_of_a_provider_may_take_are_not_taken_for_each_ones_own(told):
    assert "WAITING" in call("accounts").stdout
    assert "each of its accounts shows the same rows" not in call("accounts").stdout
    with contextlib.closing(open_ledger(f"sqlite:///{told}/lightfast.db")) as ledger:
        both = [AccountLimits(name=name, provider="maxapi.io") for name in ("main", "second")]
        ledger.accounts.sync(both)

    assert "rows wait for a provider, and each of its accounts shows the same rows" in call("accounts").stdout


def test_accounts_and_status_tell_how_far_limits_are_used_and_what_waits(tmp_path, monkeypatch):
    monkeypatch.setenv("MAXAPI_IO_API_KEY", "k")
    ledger, now = open_ledger(f"sqlite:///{tmp_path}/lightfast.db"), time.time()
    limits = stocked_ledger.account(name="maxapi-io", submits_per_second=1.0, max_in_flight=4)
    stocked_ledger.stock(ledger, stocked_ledger.rows(80), limits=limits)
    intents = ledger.claims.submits("maxapi-io", now, lease=90, horizon=60.0).intents
    ledger.close()

    (account,) = document("accounts")["accounts"]
    text = call("accounts").stdout

    assert (account["submits_last_minute"], account["waiting_rows"]) == (len(intents), 76) == (4, 76)
    assert account["bound_by"] == "in_flight"
    assert "4 of 4" in text
    assert "7%" in text
    assert "held up by what is in flight" in text
    assert "4 submits in the last minute of 60, 4 in flight of 4" in call("status", "spring").stdout


@pytest.mark.parametrize("words", [("retry", "shop"), ("redo", "shop", "--key", "lamp"), ("resume", "shop")])
def test_nothing_is_made_in_a_cancelled_batch_and_nothing_of_it_offered(told, words):
    assert "as before with  --batch shop-2 --reuse  added: what is stored here is" in call("cancel", "shop").stderr

    assert "lightfast retry" not in call("status", "shop").stdout
    with pytest.raises(BadInput, match=r"cancelled for good.* as before with  --batch shop-2 --reuse  added"):
        call(*words)


def test_a_moderated_row_is_never_offered_for_a_plain_retry(told, monkeypatch):
    monkeypatch.setattr("cli.flow.execute.work", lambda *_: 0)  # a row that waits goes on
    text = call("status", "shop").stdout
    nothing = call("retry", "shop").stderr

    assert "1 row was refused by moderation and is not retried without --error moderation" in text
    assert "lightfast retry" not in text
    assert "--error moderation; change the prompt and run" in nothing
    assert (
        "no row of shop ended with link_dead; there are 1 moderation"
        in call("retry", "shop", "--error", "link_dead").stderr
    )


def test_what_a_daily_budget_leaves_is_told(told):
    ledger = open_ledger(f"sqlite:///{told / 'lightfast.db'}")
    ledger.accounts.sync([AccountLimits(name="main", provider="maxapi.io")], daily_budget=90_000)
    ledger.close()

    document = json.loads(call("status", "shop", "--json").stdout)

    (limit,) = document["daily_budgets"]
    assert (limit["account"], limit["budget_usd"], limit["spent_usd"]) == (None, 0.09, 0.06)
    assert "today, all accounts: $0.06 of daily_budget $0.09; anew at 20" in call("status", "shop").stdout
    assert "today, all accounts: $0.06 of daily_budget $0.09" in call("accounts").stdout


def test_hints_are_called_as_this_command_was(told, monkeypatch):
    monkeypatch.setattr(sys, "argv", [".venv/bin/lightfast", "status", "shop", "--config", "my shop.toml"])

    assert ".venv/bin/lightfast unknown shop --config 'my shop.toml'" in call("status", "shop").stdout


def test_why_tells_why_a_paid_image_is_not_stored_yet_and_how_to_give_it_up(told):
    now = time.time() + 60
    ledger = open_ledger(f"sqlite:///{told / 'lightfast.db'}")
    ledger.accounts.wake("main", now)
    (intent,) = ledger.claims.submits("main", now, lease=60.0, horizon=9.0).intents
    made = MadeImage(link=Link(url="https://cdn.example/d.png"), spool=None, expires_at=now + 3600)
    ledger.facts.record([TaskSucceeded(attempt_id=intent.attempt_id, at=now, images=(made,), task_id="t-desk")])
    (copy,), _ = ledger.claims.copies(now, holder="me", lease=60.0, at_most=1)
    failed = {"code": "download_failed", "message": "the server answered 503"}
    ledger.facts.record([ImageDelayed(image_id=copy.image_id, at=now, next_copy_at=now + 30, **failed)])
    ledger.close()

    text = call("why", "shop", "desk").stdout

    for part in (
        "tried once",
        "next",
        "download_failed: the server answered 503",
        "its link dies",
        "give-up shop --key",
    ):
        assert part in text
    assert "1 image is not copied yet: 1 download_failed" in call("status", "shop").stdout
    with pytest.raises(BadInput, match=r"add --yes\. Nothing was changed"):
        call("give-up", "shop", "--key", "desk")
    said = call("give-up", "shop", "--key", "desk", "--yes").stderr
    assert "desk, image 0: 1 try, the last: download_failed" in said
    assert "1 paid image given up, counted as lost. To make anew, and pay again:  lightfast retry shop" in said
    assert document("why", "shop", "desk")["error"] == "given_up"


def test_a_task_is_adopted_only_when_the_provider_knows_it(told, sandbox, monkeypatch):
    found = ("unknown", "shop", "--key", "sofa", "--resolve", "found", "--task-id", "nonsense")
    with pytest.raises(LightfastError, match="could not be asked about it") as unasked:
        call(*found)
    account = {"PROVIDER": "maxapi.io", "API_KEY": "sandbox-key", "BASE_URL": f"{sandbox.url}/maxapi.io"}
    for name, value in account.items():
        monkeypatch.setenv(f"LIGHTFAST_ACCOUNTS__MAIN__{name}", value)
    monkeypatch.setenv("LIGHTFAST_ALLOW_PRIVATE_HOSTS", "1")

    with pytest.raises(BadInput, match="knows no such task"):
        call(*found, "--yes")

    assert unasked.value.exit_code == 1
    assert document("why", "shop", "sofa")["status"] == "held"


def test_a_task_found_is_taken_for_the_given_up_attempt_whose_provider_knows_it(tmp_path, monkeypatch):
    both = [
        stocked_ledger.account(name="old", provider="apimaster"),
        stocked_ledger.account(name="main", provider="maxapi.io"),
    ]
    with contextlib.closing(open_ledger(f"sqlite:///{tmp_path}/lightfast.db")) as ledger:
        ledger.accounts.sync(both)
        elsewhere = dataclasses.replace(stocked_ledger.row(0), provider="apimaster")
        for name, row in (("old", elsewhere), ("main", stocked_ledger.row(0))):
            ledger.batches.record_manifest(stocked_ledger.new_batch(), [row], now=stocked_ledger.NOW)
            (sent,) = ledger.claims.submits(name, stocked_ledger.NOW, lease=90).intents
            unclear = {"at": stocked_ledger.NOW, "code": "outcome_unknown", "message": "cut"}
            ledger.facts.record([SubmitUnclear(attempt_id=sent.attempt_id, **unclear)])
            ledger.unknowns.resolve([sent.attempt_id], "pay-again", stocked_ledger.NOW)

    async def ask(_settings, attempt, _task_id):
        return NotFound(message="no such task") if attempt.account == "old" else Running(status="generating")

    monkeypatch.setattr("worker.recovery.provider_task.ask", ask)

    call("unknown", "spring", "--key", "k0", "--resolve", "found", "--task-id", "T-1")

    with contextlib.closing(open_ledger(f"sqlite:///{tmp_path}/lightfast.db")) as ledger:
        (left,) = ledger.unknowns.given_up("spring", "k0")
    assert left.account == "old"


def test_give_up_counts_the_money_of_what_is_lost_and_not_of_what_is_copied_just_now(tmp_path):
    with contextlib.closing(open_ledger(f"sqlite:///{tmp_path}/lightfast.db")) as ledger:
        now = time.time()
        stocked_ledger.stock(ledger, stocked_ledger.rows(2))
        for intent in ledger.claims.submits("main", now, lease=90).intents:
            done = {"at": now, "images": (stocked_ledger.made(expires_at=now + 900),), "task_id": intent.key}
            ledger.facts.record([TaskSucceeded(attempt_id=intent.attempt_id, **done)])
        ledger.claims.copies(now, holder="me", lease=600, at_most=1)

    told = document("give-up", "spring", "--key", "k0", "--key", "k1", "--yes")

    assert (told["given_up"], told["lost_usd"]) == (1, 0.02)


def test_accounts_are_shown_before_the_first_run(tmp_path, monkeypatch):
    monkeypatch.setenv("MAXAPI_IO_API_KEY", "k")

    text = call("accounts").stdout

    assert "maxapi.io" in text
    assert "0 of 4*" in text
    assert not list(tmp_path.iterdir())


def test_every_word_about_the_stand_in_says_so(told, monkeypatch):
    (told / "lightfast.db").rename(told / "lightfast-sandbox.db")
    words = ["cancel", "shop", "--sandbox"]
    monkeypatch.setattr(sys, "argv", ["lightfast", *words])

    assert call(*words).stderr.startswith("SANDBOX shop is cancelled")


def test_a_run_that_is_at_work_is_the_one_that_goes_on(told):
    ledger = open_ledger(f"sqlite:///{told / 'lightfast.db'}")

    with ledger.hold(time.time()):
        assert "goes on by the `lightfast run` that is at work" in call("resume", "shop").stderr
    ledger.close()
    assert "goes on by the next `lightfast run`" in call("resume", "shop").stderr


def test_who_watches_what_nobody_works_on_is_told_and_ctrl_c_ends_the_watching(told, monkeypatch):
    def ctrl_c(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("cli.flow.watch.time.sleep", ctrl_c)

    watched = call("watch", "shop", code=130)

    assert (
        "warning: nobody works on it now: the same `lightfast run`, or `lightfast schedule serve`, goes on"
        in watched.stderr
    )
    assert "shop: no longer watched; nobody works on it now" in watched.stdout


def test_a_manifest_of_bad_rows_alone_is_told_those_and_nothing_of_rows_taken_out(told, monkeypatch):
    monkeypatch.setenv("MAXAPI_IO_API_KEY", "k")
    (told / "shop.csv").write_text("key,prompt\nlamp,A lamp\ndesk,A desk\n")

    text = call("plan", "shop.csv", "--limit", "1", code=2).stdout  # its path is another than the batch's

    assert "bad (1)" in text
    assert "not in this manifest" not in text


def test_a_plan_with_the_stand_in_leaves_nothing_behind(tmp_path):
    (tmp_path / "m.csv").write_text("key,prompt\na,A lamp\n")

    call("plan", "m.csv", "--to", "out", "--sandbox")

    assert [path.name for path in tmp_path.iterdir()] == ["m.csv"]


def test_why_tells_images_of_one_second_by_slot(told):
    with open_session(None, sandbox=False) as session:
        batch, story = session.ledger.batches.find("shop"), session.ledger.reports.story("shop", "lamp")
    images = tuple(dataclasses.replace(each, stored_at=2e9 + 0.9 - each.slot / 2) for each in story.result.images)
    result = dataclasses.replace(story.result, images=images)

    lines = [text for text, _ in tell(dataclasses.replace(story, result=result), batch)]

    assert [text.split("image ")[1][0] for text in lines if "stored:" in text] == ["0", "1"]
