"""Whom to tell, as it stands in the settings: what can be used, where the values come from, and what is never shown."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.errors import BadInput
from jobs.settings.notifications import split
from jobs.settings.sources import load_settings

SLACK = "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#general"
MAIL = "mailto://mia:pa55word@example.com?to=a@example.com,b@example.com"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def load(text="", **environment):
    Path("lightfast.toml").write_text(text)
    os.environ.update(environment)
    return load_settings()


def problems(text="", **environment):
    with pytest.raises(BadInput) as caught:
        load(text, **environment)
    return list(caught.value.problems)


@pytest.fixture(autouse=True)
def kept_environment(monkeypatch):
    monkeypatch.setattr(os, "environ", dict(os.environ))


def plain(settings):
    return [each.get_secret_value() for each in settings.notify]


def test_addresses_come_from_the_file_from_variables_and_from_files():
    Path("mail").write_text(MAIL + "\n")

    settings = load(f'notify = ["{SLACK}", "file:mail", "env:CHAT"]', CHAT="json://127.0.0.1/x")

    assert plain(settings) == [SLACK, MAIL, "json://127.0.0.1/x"]


@pytest.mark.parametrize("written", [f'["{SLACK}", "{MAIL}"]', f"{SLACK},{MAIL}", f"{SLACK} , {MAIL} "])
def test_a_variable_holds_a_json_list_or_addresses_with_commas_between(written):
    assert plain(load(LIGHTFAST_NOTIFY=written)) == [SLACK, MAIL]


def test_a_commas_within_an_address_divides_nothing():
    assert plain(load(LIGHTFAST_NOTIFY=MAIL)) == [MAIL]


def test_a_variable_that_env_names_may_begin_as_settings_do():
    settings = load(
        '[webhook]\nurl = "https://shop.example/hook"\nsecret = "env:LIGHTFAST_WEBHOOK_SECRET"\n',
        LIGHTFAST_WEBHOOK_SECRET=SECRET,
    )

    assert settings.webhook.secret.get_secret_value() == SECRET
    (ignored,) = load(LIGHTFAST_WEBHOOK_SECRET=SECRET).ignored_variables  # nothing refers to it: told, and left aside
    assert "LIGHTFAST_WEBHOOK_SECRET is not read" in ignored
    assert SECRET not in ignored


@given(st.lists(st.sampled_from([SLACK, MAIL, "json://127.0.0.1/a,b", "env:NAME", "file:a b"]), min_size=1))
def test_what_is_joined_with_commas_is_split_at_the_same_places(addresses):
    assert split(", ".join(addresses)) == addresses


def test_a_wrong_address_is_named_by_its_place_and_its_scheme_and_by_nothing_else():
    (problem,) = problems(f'notify = ["{SLACK}", "slak://topsecret/other", "mailto://"]')

    assert "lightfast.toml, notify" in problem
    assert "address 2 (slak://…), address 3 (mailto://…)" in problem
    assert "topsecret" not in problem
    assert "TIiajkdn" not in problem


def test_a_wrong_address_of_a_variable_names_the_variable():
    (problem,) = problems(LIGHTFAST_NOTIFY="slak://topsecret")

    assert problem.startswith("LIGHTFAST_NOTIFY: its value (not shown): address 1 (slak://…)")


def test_a_missing_variable_is_named():
    assert problems('notify = ["env:CHAT"]') == [
        'lightfast.toml, notify: address 1: "env:CHAT": the variable CHAT is not set'
    ]


def test_named_channels_and_a_webhook_may_be_given_by_variables():
    settings = load(
        '[channels]\nthe-shop = "env:NOBODY"\n',
        LIGHTFAST_CHANNELS__THE_SHOP=SLACK,
        LIGHTFAST_WEBHOOK__URL="https://example.com/hook?token=t",
        LIGHTFAST_WEBHOOK__SECRET=SECRET,
    )

    assert settings.channels["the-shop"].get_secret_value() == SLACK
    assert settings.webhook.url.get_secret_value() == "https://example.com/hook?token=t"


@pytest.mark.parametrize("name", ["two words", "webhook", "a/b"])
def test_a_channels_name_is_plain_and_not_the_programs(name):
    assert "names should be" in problems(f'[channels]\n"{name}" = "{SLACK}"')[0]


@pytest.mark.parametrize("secret", [SECRET, SECRET.removeprefix("whsec_"), "c2VjcmV0LW9mLWEtdGVzdA"])
def test_a_webhooks_secret_is_base64_with_or_without_its_prefix(secret):
    settings = load(f'[webhook]\nurl = "http://127.0.0.1:9/hook"\nsecret = "{secret}"')

    assert settings.webhook.secret.get_secret_value() == secret


@pytest.mark.parametrize(
    ("url", "secret", "told"),
    [
        ("ftp://me:hidden-one@h/x", SECRET, "webhook.url: its value (not shown): should be an address like https://"),
        ("https://h/hidden-one", "hidden-one!", "webhook.secret: its value (not shown): should be whsec_"),
        ("https://h/hidden-one", "whsec_", "webhook.secret: its value (not shown): should be whsec_"),
    ],
)
def test_a_wrong_webhook_is_named_and_not_shown(url, secret, told):
    (problem,) = problems(f'[webhook]\nurl = "{url}"\nsecret = "{secret}"')

    assert told in problem
    assert "hidden-one" not in problem


def test_a_webhook_without_a_secret_says_what_is_missing():
    (problem,) = problems('[webhook]\nurl = "https://h/x"')

    assert problem.startswith("lightfast.toml, webhook.secret: missing")


def test_no_secret_is_in_what_settings_show_of_themselves():
    settings = load(
        f'notify = ["{MAIL}"]\n[channels]\nteam = "{SLACK}"\n[webhook]\nurl = "https://h/t0ken"\nsecret = "{SECRET}"'
    )

    shown = repr(settings) + str(settings)
    assert not [secret for secret in ("pa55word", "TIiajkdn", "t0ken", "MfKQ9") if secret in shown]
