"""What may be set, where from, and how the start ends when it is wrong."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cli.flow.settings import read_settings
from jobs.errors import BadInput
from jobs.settings.model import AccountSettings
from jobs.settings.sources import load_settings
from providers.registry import PROVIDERS


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty folder and an environment without any variable of ours or of a provider."""
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
    monkeypatch.setattr(os, "environ", kept)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def problems(**environment: str) -> list[str]:
    os.environ.update(environment)
    with pytest.raises(BadInput) as caught:
        load_settings()
    return list(caught.value.problems)


def write(text: str, path: str = "lightfast.toml") -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)


def test_keys_in_the_environment_make_one_account_each():
    os.environ |= {"MAXAPI_IO_API_KEY": "k1", "APIMASTER_API_KEY": "k3", "APIMASTER_BASE_URL": "http://127.0.0.1:9/v1/"}

    accounts = load_settings().accounts

    assert {name: (a.provider, a.base_url, a.api_key.get_secret_value()) for name, a in accounts.items()} == {
        "maxapi-io": ("maxapi.io", "https://api.maxapi.io", "k1"),
        "apimaster": ("apimaster", "http://127.0.0.1:9", "k3"),
    }


def test_a_variable_may_change_an_account_nobody_wrote_down():
    os.environ |= {"MAXAPI_IO_API_KEY": "k1", "LIGHTFAST_ACCOUNTS__MAXAPI_IO__MAX_IN_FLIGHT": "7"}

    accounts = load_settings().accounts

    assert [(name, a.max_in_flight) for name, a in accounts.items()] == [("maxapi-io", 7)]


def test_the_environment_wins_over_dotenv_which_wins_over_the_file():
    write('redis_url = "redis://toml/0"\ndrain_seconds = 1\nunknown_budget = 1.5\n')
    write("LIGHTFAST_DRAIN_SECONDS=2\nLIGHTFAST_REDIS_URL=redis://dotenv/0\n", ".env")
    os.environ["LIGHTFAST_REDIS_URL"] = "redis://environment/0"

    settings = load_settings()

    assert (settings.redis_url, settings.drain_seconds, settings.unknown_budget) == ("redis://environment/0", 2, 1.5)


def test_accounts_are_read_from_the_file_and_changed_by_variables():
    write(
        "[accounts.main]\nprovider = 'maxapi.dev'\napi_key = 'env:MY_KEY'\nmax_in_flight = 50\n"
        "[accounts.main.prices]\n'gpt-image-2' = { 1k = 0.02 }\n"
    )
    write("MY_KEY=secret\n", ".env")
    os.environ |= {"LIGHTFAST_ACCOUNTS__MAIN__MAX_IN_FLIGHT": "9", "MAXAPI_IO_API_KEY": "not-used"}

    accounts = load_settings().accounts

    assert list(accounts) == ["main"]
    main = accounts["main"]
    assert (main.max_in_flight, main.prices, main.api_key.get_secret_value()) == (
        9,
        {"gpt-image-2": {"1k": 0.02}},
        "secret",
    )


def test_urls_and_keys_may_stand_in_files_and_variables(folder):
    write("the-key\n", "run/key")
    write(
        "[accounts.a]\nprovider='apimaster'\napi_key='file:run/key'\nbase_url='env:BASE'\n[storage]\nto='file:///srv/x'\n"
    )
    os.environ["BASE"] = "http://10.0.0.1:80"

    settings = load_settings()

    account = settings.accounts["a"]
    assert (account.api_key.get_secret_value(), account.base_url) == ("the-key", "http://10.0.0.1:80")
    assert settings.storage.to == "file:///srv/x"


def test_a_providers_own_variable_may_name_the_file_of_its_key(folder):
    write("the-key\n", "run/key")
    write("")
    os.environ["MAXAPI_IO_API_KEY"] = "file:run/key"

    assert load_settings().accounts["maxapi-io"].api_key.get_secret_value() == "the-key"


def test_a_relative_database_counts_from_the_folder_of_the_file_in_use(folder, monkeypatch):
    write("", "shop/lightfast.toml")

    here = load_settings().database_path
    there = load_settings(Path("shop/lightfast.toml")).database_path
    monkeypatch.setenv("LIGHTFAST_CONFIG", str(folder / "shop/lightfast.toml"))
    named = load_settings()

    assert (here, there, named.database_path) == (folder / "lightfast.db", folder / "shop/lightfast.db", there)
    assert named.source == folder / "shop/lightfast.toml"


@pytest.mark.parametrize("scheme", ["postgres", "postgresql"])
def test_postgres_means_psycopg(scheme):
    os.environ["LIGHTFAST_DATABASE_URL"] = f"{scheme}://me:pw@host/db"

    assert load_settings().database_url == "postgresql+psycopg://me:pw@host/db"


def test_what_kubernetes_injects_is_no_setting():
    os.environ |= {
        "LIGHTFAST_SERVICE_HOST": "10.0.0.7",
        "LIGHTFAST_SERVICE_PORT": "80",
        "LIGHTFAST_SERVICE_PORT_HTTP": "80",
        "LIGHTFAST_PORT": "tcp://10.0.0.7:80",
        "LIGHTFAST_PORT_80_TCP": "tcp://10.0.0.7:80",
        "LIGHTFAST_WEB_PORT_80_TCP_ADDR": "10.0.0.7",
        "LIGHTFAST_WEB_SERVICE_HOST": "10.0.0.7",
        "LIGHTFAST_DEBUG": "1",
        "LIGHTFAST_LOG": "json",
    }

    assert load_settings().log == "json"


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("LIGHTFAST_DRAIN_SECOND", "3", "did you mean LIGHTFAST_DRAIN_SECONDS?"),
        ("LIGHTFAST_DRAIN_SECONDS", "soon", '"soon": should be a valid number'),
        ("LIGHTFAST_DRAIN_SECONDS", "-1", "greater than or equal to 0"),
        ("LIGHTFAST_ON_UNKNOWN", "buy", "'hold' or 'pay-again'"),
        ("LIGHTFAST_ALLOW_PRIVATE_HOSTS", "perhaps", "boolean"),
        ("LIGHTFAST_DATABASE_URL", "mysql://root:pw@h/db", "sqlite:///FILE or postgresql://"),
        ("LIGHTFAST_DATABASE_URL", "sqlite:///:memory:", "sqlite:///FILE or postgresql://"),
        ("LIGHTFAST_REDIS_URL", "http://h", "redis://"),
        ("LIGHTFAST_ACCOUNTS__MAIN__MAX_INFLIGHT", "3", "did you mean LIGHTFAST_ACCOUNTS__MAIN__MAX_IN_FLIGHT?"),
        ("LIGHTFAST_ACCOUNTS__MAIN__PROVIDER", "maxapi.ai", "one of maxapi.io, maxapi.dev, apimaster"),
        ("LIGHTFAST_ACCOUNTS__MAIN__MAX_IN_FLIGHT", "0", "greater than or equal to 1"),
        ("LIGHTFAST_ACCOUNTS__MAIN__SUBMITS_PER_SECOND", "nan", "finite number"),
        ("LIGHTFAST_ACCOUNTS__MAIN__BASE_URL", "ftp://h", "https://host"),
        ("LIGHTFAST_ACCOUNTS__MAIN__API_KEY", "env:NOT_THERE", "NOT_THERE is not set"),
        ("LIGHTFAST_ACCOUNTS__MAIN__API_KEY", "file:/not/there", "cannot be read"),
        ("LIGHTFAST_STORAGE__PUBLIC_URL", "shop.example", "https://host"),
        ("LIGHTFAST_CONFIG", "/not/there.toml", "no such file"),
    ],
)
def test_a_wrong_value_is_told_with_its_name_and_what_was_expected(name, value, told):
    found = [problem for problem in problems(**{name: value}) if problem.startswith(name)]

    assert len(found) == 1
    assert told in found[0]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("LIGHTFAST_LEDGRE", "LIGHTFAST_DATABASE_URL"),
        ("LIGHTFAST_DAILY_BUGDET", "LIGHTFAST_DAILY_BUDGET"),
        ("LIGHTFAST_BUDGET", "LIGHTFAST_DAILY_BUDGET"),
        ("LIGHTFAST_STORAGE_TO", "LIGHTFAST_STORAGE__TO"),
        ("LIGHTFAST_ACCOUNTS_MAIN_DAILY_BUDGET", "LIGHTFAST_ACCOUNTS__NAME__DAILY_BUDGET"),
        ("LIGHTFAST_ACCOUNT__MAIN__MAX_IN_FLIGHT", "LIGHTFAST_ACCOUNTS__NAME__MAX_IN_FLIGHT"),
    ],
)
def test_a_variable_close_to_a_settings_stops_the_start(name, meant):
    assert problems(**{name: "1"}) == [f"{name}: unknown setting; did you mean {meant}?"]


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("LIGHTFAST_SHOP_SECRET", ""),
        ("LIGHTFAST_WEBHOOK_SECRET", "; did you mean LIGHTFAST_WEBHOOK?"),
        ("LIGHTFAST_REDIS", "; did you mean LIGHTFAST_REDIS_URL?"),
    ],
)
def test_a_variable_that_no_setting_refers_to_is_left_aside_and_said_so(name, suggestion, capsys):
    os.environ |= {name: "hush", "LIGHTFAST_DRAIN_SECONDS": "7"}

    settings = read_settings(None)

    assert settings.drain_seconds == 7
    expected = f"warning: {name} is not read: no setting has this name{suggestion}\n"
    assert capsys.readouterr().err == expected


def test_all_problems_are_told_at_once_and_no_secret():
    write(
        "drain_second = 3\n[accounts.main]\nprovider = 'maxapi.io'\napi_key = 'a secret\\u0007'\n"
        "max_in_flight = 'x'\n[storge]\nto='x'\n"
    )

    found = problems(LIGHTFAST_LOG="xml", LIGHTFAST_DATABASE_URL="mysql://root:hush@h/db")

    text = "\n".join(found)
    for name in (
        "drain_second",
        "accounts.main.api_key",
        "accounts.main.max_in_flight",
        "storge",
        "LIGHTFAST_LOG",
        "LIGHTFAST_DATABASE_URL",
    ):
        assert name in text
    assert len(found) == 6
    assert "secret" not in text
    assert "hush" not in text


@pytest.mark.parametrize("text", ["a = = 1", "accounts = 3", "[accounts]\nmain = 3", "storage = 'x'", "accounts = []"])
def test_a_file_of_another_shape_is_a_problem_and_no_traceback(text):
    write(text)

    assert "lightfast.toml" in problems()[0]


def test_keys_do_not_show_in_what_is_printed():
    os.environ |= {"MAXAPI_IO_API_KEY": "hush", "LIGHTFAST_DATABASE_URL": "postgres://me:hush@h/db"}

    assert "hush" not in repr(load_settings())


def test_the_sandbox_needs_no_key_and_has_its_own_ledger(folder):
    os.environ["MAXAPI_IO_API_KEY"] = "real"

    settings = load_settings(sandbox_url="http://127.0.0.1:8765")

    assert {account.provider for account in settings.accounts.values()} == set(PROVIDERS)
    assert all(account.base_url.startswith("http://127.0.0.1:8765") for account in settings.accounts.values())
    assert all(account.api_key.get_secret_value() != "real" for account in settings.accounts.values())
    assert settings.database_path == folder / "lightfast-sandbox.db"
    assert settings.allow_private_hosts
    assert settings.is_sandbox


def test_the_sandbox_starts_without_the_keys_that_a_file_names_and_tells_its_mistakes_all_the_same(folder):
    account = '[accounts.main]\nprovider = "maxapi.io"\napi_key = "env:NOT_SET"\n'
    (folder / "lightfast.toml").write_text(f'redis_url = "env:NOT_SET"\n{account}')

    assert load_settings(secrets_needed=False).accounts["main"].provider == "maxapi.io"
    assert set(load_settings(sandbox_url="http://127.0.0.1:8765").accounts) == {
        name.replace(".", "-") for name in PROVIDERS
    }
    with pytest.raises(BadInput, match="the variable NOT_SET is not set"):
        load_settings()

    (folder / "lightfast.toml").write_text(f"{account}max_in_fligth = 4\n")
    with pytest.raises(BadInput, match="max_in_fligth: unknown setting"):
        load_settings(secrets_needed=False)


def test_a_sandbox_that_is_declared_reaches_no_real_provider(folder):
    os.environ |= {"LIGHTFAST_SANDBOX": "true", "MAXAPI_IO_API_KEY": "k"}
    with pytest.raises(BadInput, match="account maxapi-io goes to the real provider"):
        load_settings()

    os.environ["MAXAPI_IO_BASE_URL"] = "http://127.0.0.1:9"

    assert load_settings().is_sandbox


@pytest.mark.parametrize("rate", [0, -1, 1e-310, 1e-9, 1e9])
def test_a_rate_beyond_what_a_clock_can_hold_is_refused(rate):
    with pytest.raises(ValueError, match="submits_per_second"):
        AccountSettings(provider="apimaster", api_key="k" * 20, submits_per_second=rate)


def test_an_account_that_names_no_base_url_has_the_one_in_the_environment(folder):
    os.environ |= {"MAXAPI_IO_API_KEY": "k", "MAXAPI_IO_BASE_URL": "http://127.0.0.1:9"}
    (folder / "lightfast.toml").write_text(
        '[accounts.main]\nprovider = "maxapi.io"\napi_key = "env:MAXAPI_IO_API_KEY"\n'
        '[accounts.own]\nprovider = "maxapi.io"\napi_key = "k"\nbase_url = "https://own.example"\n'
    )

    accounts = load_settings().accounts

    assert (accounts["main"].base_url, accounts["own"].base_url) == ("http://127.0.0.1:9", "https://own.example")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_settings_files_that_windows_wrote_with_a_byte_order_mark_are_read(folder, encoding):
    account = '# für den Laden\n[accounts.main]\nprovider = "maxapi.io"\napi_key = "file:key.txt"\n'
    (folder / "lightfast.toml").write_bytes(account.encode(encoding))
    (folder / ".env").write_bytes("LIGHTFAST_DRAIN_SECONDS=7\n".encode(encoding))
    (folder / "key.txt").write_bytes("secret\r\n".encode(encoding))

    settings = load_settings()

    assert settings.drain_seconds == 7
    assert settings.accounts["main"].api_key.get_secret_value() == "secret"


def test_a_file_of_variables_that_is_no_text_is_refused_by_name(folder):
    (folder / ".env").write_bytes(b"MAXAPI_IO_API_KEY=caf\xe9\n")

    assert ".env: not UTF-8" in problems()[0]


def test_files_that_are_changed_or_made_after_they_were_read_are_named():
    write("retries = 1\n")
    settings = load_settings()
    assert settings.changed_files == []

    os.utime("lightfast.toml", ns=(1, 1))
    write("", ".env")
    assert settings.changed_files == ["lightfast.toml", ".env"]
    assert load_settings().changed_files == []
