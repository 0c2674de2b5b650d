"""`lightfast token …`, as an operator uses it."""

from __future__ import annotations

import json

import pytest

from jobs.errors import BadInput
from jobs.policy.access import is_token
from tests.support.shop_ledger import call, document

PRODUCER = ("create", "catalog", "--role", "producer", "--daily-budget", "25", "--to", "s3://bucket/catalog")


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def refused(*words):
    with pytest.raises(BadInput) as told:
        call("token", *words)
    return str(told.value)


def test_a_token_is_shown_once_and_alone_on_stdout(tmp_path):
    made = call("token", *PRODUCER)
    (line,) = made.stdout.splitlines()

    assert is_token(line)
    assert "makes batches of its own for up to $25.00 a day (UTC), below s3://bucket/catalog" in made.stderr
    assert line[:11] in call("token", "list").stdout
    for path in tmp_path.iterdir():
        assert line.encode()[11:] not in path.read_bytes()
    for told in (call("token", "list"), call("token", "list", "--json"), call("token", "log", "--json")):
        assert line[11:] not in told.stdout + told.stderr


def test_with_json_it_stands_under_token():
    told = document("token", *PRODUCER)

    assert is_token(told["token"])
    assert (told["role"], told["daily_budget_usd"], told["to"]) == ("producer", 25.0, "s3://bucket/catalog")
    (listed,) = document("token", "list")["tokens"]
    assert "token" not in listed
    assert listed["held_today_usd"] == 0


def test_a_revoked_token_stays_listed_and_the_log_tells_who_did_it():
    call("token", *PRODUCER)
    assert "opens nothing any more" in call("token", "revoke", "catalog").stderr
    assert "is revoked, since" in call("token", "revoke", "catalog").stderr

    assert "revoked" in call("token", "list").stdout
    told = [(entry["action"], entry["subject"]) for entry in document("token", "log")["entries"]]
    assert told == [("token revoke", "catalog"), ("token create", "catalog")]
    assert "@" in document("token", "log")["entries"][0]["who"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("create", "x", "--role", "boss"), "one of viewer, producer, operator"),
        (("create", "x", "--role", "producer", "--to", "s3://b/p"), "A producer needs --daily-budget"),
        (("create", "x", "--role", "producer", "--daily-budget", "5"), "A producer needs --to"),
        (("create", "x", "--role", "viewer", "--daily-budget", "5"), "are a producer's"),
        (("create", "../x", "--role", "viewer"), "a name has letters"),
        ((*PRODUCER, "--read", "photos"), '--read "photos"'),
        ((*PRODUCER[:-2], "--to", "s3:/b/p"), "Did you mean s3://b/p?"),
        (("revoke", "nobody"), 'There is no token called "nobody"'),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_made(words, said):
    call("token", "create", "first", "--role", "operator")

    assert said in refused(*words)
    assert [each["name"] for each in document("token", "list")["tokens"]] == ["first"]


def test_a_name_is_not_used_twice():
    call("token", *PRODUCER)
    call("token", "revoke", "catalog")

    assert "There is, or was, a token called" in refused(*PRODUCER)
    assert json.loads(call("token", "list", "--json").stdout)["tokens"][0]["revoked_at"]
