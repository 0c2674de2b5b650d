"""Whom a command tells, as an operator sees it: `run --notify`, `notify test`, `doctor`; and what is refused."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import pytest
from standardwebhooks import Webhook

from jobs.errors import BadInput
from jobs.ledger import open_ledger
from jobs.ledger.accounts.condition_values import Condition, ConditionChange
from jobs.ledger.accounts.outbox_values import NewMessage
from tests.support.command import account_settings, bare_environment, lightfast
from tests.support.receiver import SECRET, Receiver
from tests.support.shop_ledger import call, document, open_shop

BARE = "s3cretpath"


@pytest.fixture
def receiver():
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def settings(receiver, tmp_path):
    at = f"json://127.0.0.1:{receiver.port}"
    file = tmp_path / "lightfast.toml"
    file.write_text(
        f'notify = ["{at}/all"]\n[channels]\nanna = "{at}/anna"\nben = "{at}/ben"\n'
        f'[webhook]\nurl = "{receiver.url}/hook"\nsecret = "{SECRET}"\n'
    )
    return file


@pytest.fixture
def run(sandbox, settings, tmp_path):
    """`lightfast run` of one row at the stand-in, whose tasks are done at once."""
    sandbox.play(takes={"default": [0.05, 0.1]}, pictures={"tiny": True})
    quick = account_settings("MAXAPI_IO", first_poll_after=0.2, poll_every=0.2)
    environment = {**bare_environment(), **sandbox.settings, **quick}

    def run(*words):
        asked = ("run", manifest(), "--to", "out", "--yes", "--provider", "maxapi.io", *words)
        ended = lightfast(*asked, environment=environment, cwd=tmp_path)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout + ended.stderr

    return run


def manifest(rows="key,prompt\na,lamp\n"):
    Path("rows.csv").write_text(rows)
    return "rows.csv"


def test_a_run_tells_at_its_end_those_who_hear_everything_and_those_it_names(receiver, run, tmp_path):
    said = run("--notify", "anna", "--notify", f"json://127.0.0.1:{receiver.port}/{BARE}")

    assert {one.path for one in receiver.got} == {"/all", "/anna", f"/{BARE}", "/hook"}
    (program,) = receiver.at("/hook")
    told = Webhook(SECRET).verify(program.body, program.headers)
    assert (told["type"], told["data"]["batch"], told["data"]["done"]) == ("batch.finished", "rows", 1)
    assert receiver.at(f"/{BARE}")[0].json["title"] == "rows: finished"
    kept = "".join(each.read_bytes().decode("latin-1") for each in tmp_path.glob("*.db*"))
    assert BARE not in said + kept

    run()
    assert len(receiver.got) == 4, "what was told is not told again"
    with contextlib.closing(open_ledger(f"sqlite:///{tmp_path / 'lightfast.db'}")) as ledger:
        assert ledger.batches.find("rows").notify == ("anna",), "the same command need not name them again"


def test_a_run_ends_though_receivers_hang_and_the_next_one_tells_what_is_left(receiver, run):
    receiver.hung = {"/all", "/hook"}
    run()
    before = {path: receiver.at(path)[0] for path in receiver.hung}
    receiver.hung = set()

    run()

    assert [one.headers["webhook-id"] for one in receiver.at("/hook")[1:]] == [before["/hook"].headers["webhook-id"]]
    assert [one.json for one in receiver.at("/all")[1:]] == [before["/all"].json]


def test_a_test_message_goes_over_every_channel_and_says_what_became_of_it(receiver, settings):
    receiver.status = lambda path: 403 if path == "/anna" else 200

    told = call("notify", "test", code=1)

    assert [" ".join(line.split()) for line in told.stdout.splitlines()] == [
        "json 1 sent",
        "anna not sent: it answered 403",
        "ben sent",
        "webhook sent",
    ]
    assert sorted(one.path for one in receiver.got) == ["/all", "/anna", "/ben", "/hook"]


def test_a_test_message_is_told_to_programs_as_json(receiver, settings):
    told = document("notify", "test")

    assert told["command"] == "notify test"
    assert [(one["channel"], one["sent"], one["problem"]) for one in told["channels"]] == [
        ("json 1", True, None),
        ("anna", True, None),
        ("ben", True, None),
        ("webhook", True, None),
    ]


def test_without_anybody_to_tell_the_test_says_how_to_name_somebody():
    with pytest.raises(BadInput, match=r"Nobody is told anything.*\[webhook\]"):
        call("notify", "test")


def test_doctor_counts_what_was_not_told_with_the_last_problem(settings, tmp_path):
    open_shop(tmp_path, tmp_path / "out")
    with contextlib.closing(open_ledger(f"sqlite:///{tmp_path / 'lightfast.db'}")) as ledger:
        change = ConditionChange(before=None, after=Condition(name="account", subject="main", state="bad_key"))
        payloads = {"webhook": "{}", "json 7": "{}"}
        ledger.conditions.change([change], time.time(), lambda _: [NewMessage(type="t", payloads=payloads)])
        for one in ledger.outbox.take(["webhook", "json 7"], time.time()):
            ledger.outbox.failed(one, "it answered 500", None, time.time())

    found = {one["what"]: (one["verdict"], one["text"]) for one in document("doctor", code=1)["findings"]}

    assert found["notify webhook"][0] == "problem"
    assert "1 message given up" in found["notify webhook"][1]
    assert "it answered 500" in found["notify webhook"][1]
    assert "no channel of these settings has this name" in found["notify json 7"][1]
    assert found["notify"] == ("ok", "json 1, anna, ben: nothing is left to be told")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("carla", '--notify: "carla": expected a name of [channels] in the settings, which has anna, ben'),
        (f"slak://{BARE}", "--notify: slak://…: expected an address that the library apprise knows"),
    ],
)
def test_a_name_or_an_address_that_cannot_be_used_is_refused_before_anything_is_recorded(settings, given, told, caplog):
    with pytest.raises(BadInput) as refused:
        call("run", manifest(), "--to", "out", "--yes", "--sandbox", "--notify", given)

    assert refused.value.problems == (told,)
    assert BARE not in caplog.text
    assert not Path("lightfast-sandbox.db").exists()


@pytest.mark.parametrize("words", [("schedule", "add", "night", "@daily"), ("submit",)])
def test_an_address_is_refused_where_workers_would_have_to_know_it(settings, words, monkeypatch):
    monkeypatch.setattr("cli.commands.submit._is_served", lambda _settings: True)
    address = f"json://127.0.0.1/{BARE}"
    with pytest.raises(BadInput) as refused:
        call(*words, manifest(), "--to", "out", "--budget", "1", "--yes", "--notify", address)

    (problem,) = refused.value.problems
    assert problem.startswith("--notify: json://…: an address holds secrets")
    assert BARE not in problem


def test_what_a_plan_proposes_shows_no_address(settings, tmp_path):
    words = ("plan", manifest(), "--to", "out", "--sandbox", "--notify", f"json://127.0.0.1/{BARE}", "--notify", "anna")
    ended = lightfast(*words, environment=bare_environment(), cwd=tmp_path)

    assert ended.returncode == 0, ended.stderr
    assert "--notify 'json://…' --notify anna" in ended.stdout + ended.stderr
    assert BARE not in ended.stdout + ended.stderr
