"""Which proxy leads to an address: the setting, HTTPS_PROXY and its kin, and NO_PROXY."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from jobs.errors import BadInput
from jobs.settings.proxies import read_proxies
from jobs.settings.sources import load_settings

PROVIDER = "https://api.provider.test/v1"


def proxies(setting=None, **environment):
    found, problems = read_proxies(SecretStr(setting) if setting else None, environment)
    assert problems == []
    return found


@pytest.mark.parametrize(
    ("environment", "url", "proxy"),
    [
        ({}, PROVIDER, None),
        ({"HTTPS_PROXY": "http://proxy.test:3128"}, PROVIDER, "http://proxy.test:3128"),
        ({"https_proxy": "proxy.test:3128", "HTTPS_PROXY": "http://other.test"}, PROVIDER, "http://proxy.test:3128"),
        ({"HTTPS_PROXY": "https://proxy.test"}, PROVIDER, "https://proxy.test:443"),
        ({"HTTP_PROXY": "http://proxy.test:3128"}, PROVIDER, None),
        ({"HTTP_PROXY": "http://proxy.test:3128"}, "http://cdn.test/a.png", "http://proxy.test:3128"),
        ({"HTTPS_PROXY": "http://[fd00::1]:3128"}, PROVIDER, "http://[fd00::1]:3128"),
        ({"HTTPS_PROXY": "http://mia:tell%40nobody@proxy.test:3128/"}, PROVIDER, "http://proxy.test:3128"),
    ],
)
def test_the_environment_names_the_proxy_of_a_scheme(environment, url, proxy):
    found = proxies(**environment).of(url)

    assert (str(found) if found else None) == proxy
    assert "nobody" not in f"{found} {found!r}"


def test_all_proxy_is_not_read_and_that_is_known():
    alone = proxies(ALL_PROXY="socks5://proxy.test:1080")
    beside = proxies(all_proxy="socks5://proxy.test:1080", HTTPS_PROXY="http://proxy.test:3128")

    assert (alone.of(PROVIDER), alone.ignores_all_proxy, beside.ignores_all_proxy) == (None, True, False)


def test_the_login_may_be_encoded():
    found = proxies(HTTPS_PROXY="http://mia:p%40ss@proxy.test:3128").of(PROVIDER)

    assert (found.username, found.password.get_secret_value()) == ("mia", "p@ss")


def test_the_setting_stands_for_both_variables():
    found = proxies("http://mine.test:8080", HTTPS_PROXY="http://proxy.test:3128")

    assert str(found.of(PROVIDER)) == str(found.of("http://cdn.test/a.png")) == "http://mine.test:8080"


@pytest.mark.parametrize(
    ("no_proxy", "url"),
    [
        ("*", PROVIDER),
        ("provider.test", PROVIDER),
        (".provider.test", PROVIDER),
        ("*.provider.test", PROVIDER),
        ("other.test, API.provider.TEST:443", PROVIDER),
        ("10.0.0.0/8", "https://10.2.3.4/x"),
        ("10.2.3.4", "https://10.2.3.4:8443/x"),
        ("fd00::/8", "https://[fd00::7]/x"),
        ("", "https://127.0.0.1:8931/maxapi.io"),
        ("", "https://[::1]:8931/"),
        ("", "https://localhost:8931/"),
    ],
)
def test_no_proxy_leads_there_directly_and_so_does_this_machines_own_address(no_proxy, url):
    assert proxies(HTTPS_PROXY="http://proxy.test:3128", NO_PROXY=no_proxy).of(url) is None


@pytest.mark.parametrize("no_proxy", ["rovider.test", "provider.test:8443", "10.0.0.0/8", "provider", "api", ".", ","])
def test_no_proxy_speaks_of_no_other_host(no_proxy):
    assert proxies(HTTPS_PROXY="http://proxy.test:3128", no_proxy=no_proxy).of(PROVIDER)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("socks5://mia:tellnobody@proxy.test:1080", "SOCKS proxies are not supported"),
        ("ftp://tellnobody@proxy.test", "should be http://"),
        ("http://mia:tellnobody@proxy.test:port", "should be http://"),
        ("http://", "should be http://"),
    ],
)
@pytest.mark.parametrize("named", ["HTTPS_PROXY", "LIGHTFAST_PROXY"])
def test_a_proxy_that_cannot_be_used_stops_the_start_without_its_password(monkeypatch, named, value, words):
    monkeypatch.setenv(named, value)

    with pytest.raises(BadInput, match=f"{named}: its value \\(not shown\\): {words}") as refused:
        load_settings()

    assert "tellnobody" not in str(refused.value)


def test_the_proxy_of_a_file_may_stand_in_a_variable(monkeypatch, tmp_path):
    (tmp_path / "lightfast.toml").write_text('proxy = "env:OUR_PROXY"\n')
    monkeypatch.setenv("OUR_PROXY", "http://mia:tellnobody@proxy.test:3128")

    settings = load_settings()

    assert str(settings.proxies.of(PROVIDER)) == "http://proxy.test:3128"
    assert "tellnobody" not in repr(settings)


def test_a_stand_in_on_this_machine_is_reached_directly(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.test:3128")

    settings = load_settings(sandbox_url="http://127.0.0.1:8931")

    assert {settings.proxies.of(account.base_url) for account in settings.accounts.values()} == {None}
