"""Where settings come from: `lightfast.toml`, a `.env` beside it, then the environment, which wins.

Wrong ones stop the start. Sources are merged here, not by pydantic-settings' own readers: those ignore unknown
variables and stop at the first broken one, and a start that fails must name every problem at once.
"""

from __future__ import annotations

import difflib
import io
import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dotenv import dotenv_values
from pydantic import SecretStr, ValidationError

from jobs.errors import BadInput
from jobs.formatting import in_words
from jobs.marks import text_of
from jobs.settings.model import AccountSettings, Settings, Storage, modified
from jobs.settings.notifications import WebhookSettings, split
from jobs.settings.proxies import Proxies, read_proxies
from providers.registry import PROVIDERS, base_url_variable, key_variable

PREFIX = "LIGHTFAST_"
FILE_NAME = "lightfast.toml"
SANDBOX_LEDGER = "lightfast-sandbox.db"

#: Variables with our prefix that are read elsewhere.
OTHER_VARIABLES = frozenset({"LIGHTFAST_CONFIG", "LIGHTFAST_DEBUG"})
#: What Kubernetes injects for a service whose name begins with "lightfast".
KUBERNETES = re.compile(r"(_SERVICE_HOST|_SERVICE_PORT(_.*)?|_PORT|_PORT_\d+_.*)$")


def load_settings(
    config: Path | None = None, *, sandbox_url: str | None = None, secrets_needed: bool = True
) -> Settings:
    """Reads and checks all sources. `sandbox_url`: the stand-in's address; its accounts replace all others.

    `secrets_needed`: whether a key, or the address of a database or of Redis, that stands elsewhere (`env:`, `file:`)
    has to be there. The stand-in needs none of them.

    Raises:
        BadInput: with every problem there is.
    """
    file = _find_file(config)
    folder = (file.parent if file else Path.cwd()).absolute()
    files = {each: modified(each) for each in (file or folder / FILE_NAME, folder / ".env")}
    draft = _Draft(values=_read_toml(file), file_name=file.name if file else FILE_NAME)
    environment = _environment(folder)
    draft.merge_environment(environment)
    if sandbox_url is not None:
        draft.use_sandbox(sandbox_url)
    draft.add_provider_accounts(environment)
    draft.add_base_urls(environment)
    draft.resolve_references(environment, folder, secrets_needed=secrets_needed and sandbox_url is None)
    proxies = draft.read_proxies(environment)
    settings = draft.validate()
    sandbox = sandbox_url is not None
    return settings.placed(file, folder, sandbox=sandbox, proxies=proxies, ignored_variables=draft.ignored, files=files)


# -- sources -------------------------------------------------------------------------------------------------------


def _find_file(config: Path | None) -> Path | None:
    named = config or (Path(given) if (given := os.environ.get("LIGHTFAST_CONFIG")) else None)
    if named is None:
        return file if (file := Path.cwd() / FILE_NAME).is_file() else None
    if not named.is_file():
        how = "--config" if config else "LIGHTFAST_CONFIG"
        raise BadInput([f"{how}: {named}: there is no such file; expected a {FILE_NAME}"])
    return named.absolute()


def _read_toml(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        return tomllib.loads(text_of(file.read_bytes()))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as broken:
        raise BadInput([f"{file}: not TOML: {broken}"]) from None
    except OSError as trouble:
        raise BadInput([f"{file}: cannot be read: {trouble.strerror}"]) from None


def _environment(folder: Path) -> dict[str, str]:
    """The environment over `.env`. What `.env` says of others (AWS_…) is put in place for their libraries."""
    file = folder / ".env"
    beside = {name: value for name, value in _read_variables(file).items() if value} if file.is_file() else {}
    for name, value in beside.items():
        if not name.startswith(PREFIX):
            os.environ.setdefault(name, value)
    return {**beside, **{name: value for name, value in os.environ.items() if value}}


def _read_variables(file: Path) -> dict[str, str | None]:
    try:
        return dotenv_values(stream=io.StringIO(text_of(file.read_bytes())))
    except UnicodeDecodeError as wrong:
        raise BadInput([f"{file}: not UTF-8: {wrong}"]) from None
    except OSError as trouble:
        raise BadInput([f"{file}: cannot be read: {trouble.strerror}"]) from None


@dataclass(slots=True, kw_only=True)
class _Draft:
    """Values on their way to `Settings`, with the name under which the user gave each."""

    values: dict[str, Any]
    file_name: str
    names: dict[tuple[str, ...], str] = field(default_factory=dict)  # path -> variable
    problems: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)  # what is said of variables with our prefix that are no settings

    def merge_environment(self, environment: Mapping[str, str]) -> None:
        named = {*_named_variables(self.values), *_named_variables(environment)}
        for name, value in sorted(environment.items()):
            if name.startswith(PREFIX) and name not in OTHER_VARIABLES and not KUBERNETES.search(name):
                path = self._path_of(name, environment)
                if path[0] not in Settings.model_fields:
                    if name not in named:  # else a setting refers to it
                        self._not_a_setting(name)
                    continue
                self.names[path] = name
                _put(self.values, path, _json_or_text(value))

    def _not_a_setting(self, variable: str) -> None:
        """A name that is close to a setting's is a slip of the pen, and what was meant would not hold: it is a problem.

        Any other is left aside: it may be a secret of another folder's settings.
        """
        said = variable.removeprefix(PREFIX).lower().replace("__", "_")
        of_account = [field for field in AccountSettings.model_fields if said.endswith(f"_{field}")]
        if said.startswith("account") and of_account and of_account[0] not in _SECRET:
            meant, is_close = f"accounts__name__{of_account[0]}", True
        else:
            found = difflib.get_close_matches(said, _CALLED, n=1)
            meant = _CALLED[found[0]] if found else ""
            is_close = bool(found and difflib.SequenceMatcher(None, found[0], said).ratio() >= _CLOSE)
        suggestion = f"; did you mean {PREFIX}{meant.upper()}?" if meant else ""
        if is_close:
            self.problems.append(f"{variable}: unknown setting{suggestion}")
        else:
            self.ignored.append(f"{variable} is not read: no setting has this name{suggestion}")

    def _path_of(self, variable: str, environment: Mapping[str, str]) -> tuple[str, ...]:
        """LIGHTFAST_ACCOUNTS__MAIN__X -> accounts, main, x; a name is found whatever its case and `-`, `.`, `_`."""
        parts = variable.removeprefix(PREFIX).lower().split("__")
        if parts[0] in ("accounts", "channels") and len(parts) > 1:
            accounts = _provider_accounts(environment) if parts[0] == "accounts" else {}
            known = [*_table(self.values, parts[0]), *accounts]
            parts[1] = next((name for name in known if _plain(name) == _plain(parts[1])), parts[1])
        return tuple(parts)

    def use_sandbox(self, url: str) -> None:
        self.values["accounts"] = _sandbox_accounts(url)
        self.values["database_url"] = f"sqlite:///{SANDBOX_LEDGER}"
        self.values["allow_private_hosts"] = True

    def add_provider_accounts(self, environment: Mapping[str, str]) -> None:
        """Without any account of the user's, each provider whose key is in the environment gets one."""
        found = _provider_accounts(environment)
        named = self.values.setdefault("accounts", {})
        if isinstance(named, dict) and set(named) <= set(found):
            self.values["accounts"] = {name: {**account, **_table(named, name)} for name, account in found.items()}

    def add_base_urls(self, environment: Mapping[str, str]) -> None:
        """An account that names no base URL has the one in the environment: a rehearsal must not reach the real API."""
        for name in _table(self.values, "accounts"):
            account = _table(_table(self.values, "accounts"), name)
            provider = account.get("provider")
            base = environment.get(base_url_variable(provider)) if provider in PROVIDERS else None
            if base and not account.get("base_url"):
                account["base_url"] = base

    def resolve_references(self, environment: Mapping[str, str], folder: Path, *, secrets_needed: bool) -> None:
        self._resolve_addresses(environment, folder, secrets_needed=secrets_needed)
        for table, name, path in _url_fields(self.values):
            value = table[name]
            if not isinstance(value, str):
                continue
            try:
                table[name] = _resolve(value, environment, folder, is_dest=path == ("storage", "to"))
            except LookupError as missing:
                if secrets_needed or not _SECRET.intersection(path):
                    self.problems.append(f"{self._label(path)}: {missing.args[0]}")
                    del table[name]
                elif name == "api_key":
                    table[name] = "unset"  # never sent
                else:
                    del table[name]
                    if table is self.values.get("webhook"):
                        del self.values["webhook"]

    def _resolve_addresses(self, environment: Mapping[str, str], folder: Path, *, secrets_needed: bool) -> None:
        """The addresses behind `env:` and `file:` in the list; of those that are not there, others stay in place."""
        listed = split(self.values.get("notify"))
        if not isinstance(listed, list):
            return
        found = []
        for at, value in enumerate(listed, 1):
            try:
                found.append(_resolve(value, environment, folder, is_dest=False) if isinstance(value, str) else value)
            except LookupError as missing:
                if secrets_needed:
                    self.problems.append(f"{self._label(('notify',))}: address {at}: {missing.args[0]}")
        self.values["notify"] = found

    def read_proxies(self, environment: Mapping[str, str]) -> Proxies:
        given = self.values.get("proxy")
        setting = SecretStr(given) if isinstance(given, str) and given else None
        proxies, problems = read_proxies(setting, environment)
        self.problems += [re.sub(r"^proxy(?=:)", self._label(("proxy",)), problem) for problem in problems]
        return proxies

    def validate(self) -> Settings:
        try:
            settings = Settings(**self.values)
        except ValidationError as wrong:
            told = {problem.partition(":")[0] for problem in self.problems}
            for error in wrong.errors(include_url=False, include_context=False):
                label = self._label(tuple(str(part) for part in error["loc"]))
                if label not in told:
                    self.problems.append(self._problem(dict(error)))
        if self.problems:
            raise BadInput(self.problems)
        return settings

    def _label(self, path: tuple[str, ...]) -> str:
        """As the user wrote it: the variable, or the file and the dotted name."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.names:
                return self.names[path[:length]]
        return f"{self.file_name}: {'.'.join(path)}".replace(f"{self.file_name}: ", f"{self.file_name}, ")

    def _problem(self, error: dict[str, Any]) -> str:
        path = tuple(str(part) for part in error["loc"])
        label = self._label(path)
        if error["type"] == "extra_forbidden":
            return f"{label}: unknown setting{self._suggestion(path)}"
        if error["type"] == "missing":
            return f"{label}: missing; expected {_EXPECTED.get(path[-1], 'a value')}"
        expected = error["msg"].removeprefix("Value error, ").removeprefix("Input ")
        return f"{label}: {_shown(path, error['input'])}: {expected}"

    def _suggestion(self, path: tuple[str, ...]) -> str:
        legal = list(_fields_at(path[:-1]))
        close = difflib.get_close_matches(path[-1], legal, n=1)
        if not close:
            return f"; expected one of {', '.join(legal)}" if legal else ""
        name = PREFIX + "__".join((*path[:-1], close[0])).upper() if path in self.names else close[0]
        return f"; did you mean {name}?"


_EXPECTED = {
    "provider": f"one of {', '.join(PROVIDERS)}",
    "api_key": 'the key, or "env:NAME", or "file:PATH"',
    "url": 'the address, or "env:NAME", or "file:PATH"',
    "secret": 'whsec_…, or "env:NAME", or "file:PATH"',
}
#: What people call settings, by what they are called: beside their names those of tables with one underscore.
_CALLED = {
    **{name: name for name in Settings.model_fields},
    **{f"storage_{name}": f"storage__{name}" for name in Storage.model_fields},
    "ledger": "database_url",
    "budget": "daily_budget",
}
#: How alike a variable's name and a setting's are, from 0 to 1, when one is taken to be meant by the other.
_CLOSE = 0.8
_SECRET = frozenset({"api_key", "channels", "database_url", "notify", "proxy", "redis_url", "webhook"})


def _shown(path: tuple[str, ...], value: object) -> str:
    """The value as the user gave it, shortened; a secret's never."""
    if _SECRET.intersection(path):
        return "its value (not shown)"
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 80 else text[:79] + "…"  # noqa: PLR2004  fits a line


def _fields_at(path: tuple[str, ...]) -> Iterator[str]:
    """Legal names below a path."""
    if not path:
        yield from Settings.model_fields
    elif path == ("storage",):
        yield from Storage.model_fields
    elif path == ("webhook",):
        yield from WebhookSettings.model_fields
    elif path[0] == "accounts" and len(path) == 2:  # noqa: PLR2004  accounts.NAME
        yield from AccountSettings.model_fields


def _put(values: dict[str, Any], path: tuple[str, ...], value: object) -> None:
    for part in path[:-1]:
        below = values.get(part)
        if not isinstance(below, dict):
            below = values[part] = {}
        values = below
    values[path[-1]] = value


def _json_or_text(value: str) -> object:
    """A table may be given whole, as JSON: LIGHTFAST_ACCOUNTS='{"main": {…}}'."""
    if not value.lstrip().startswith("{"):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def _plain(name: str) -> str:
    return re.sub(r"[-._]", "_", name.lower())


def _table(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    table = values.get(name)
    return table if isinstance(table, dict) else {}


# -- accounts nobody wrote down ------------------------------------------------------------------------------------


def _provider_accounts(environment: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    found = {}
    for provider in PROVIDERS:
        variable = key_variable(provider)
        if environment.get(variable):
            found[provider.replace(".", "-")] = {"provider": provider, "api_key": f"env:{variable}"}
    return found


def _sandbox_accounts(url: str) -> dict[str, dict[str, Any]]:
    """Accounts at the stand-in, which serves each provider below its name."""
    base = url.rstrip("/")
    limits = {"submits_per_second": 20.0, "polls_per_second": 50.0, "max_in_flight": 40}
    cadence = {"first_poll_after": 1.0, "poll_every": 1.0}
    accounts: dict[str, dict[str, Any]] = {
        provider.replace(".", "-"): {
            "provider": provider,
            "api_key": "sandbox-key",
            "base_url": f"{base}/{provider}",
            **limits,
            **cadence,
        }
        for provider in PROVIDERS
    }
    accounts["apimaster"]["prices"] = {"gpt-image-2": {"1k": 0.03, "2k": 0.05, "4k": 0.08}}
    return accounts


# -- references ----------------------------------------------------------------------------------------------------


def _url_fields(values: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str, tuple[str, ...]]]:
    """Every URL and key that is set: its table, its name there, its path."""
    tables = [((), values, ("database_url", "proxy", "redis_url"))]
    storage = (("storage",), _table(values, "storage"), ("to", "public_url"))
    accounts = [
        (("accounts", name), table, ("api_key", "base_url", "webhook_base_url"))
        for name, table in _table(values, "accounts").items()
        if isinstance(table, dict)
    ]
    channels = (("channels",), _table(values, "channels"), tuple(_table(values, "channels")))
    webhook = (("webhook",), _table(values, "webhook"), ("url", "secret"))
    for path, table, names in [*tables, storage, channels, webhook, *accounts]:
        for name in names:
            if name in table:
                yield table, name, (*path, name)


def _named_variables(value: object) -> Iterator[str]:
    """The variables that `env:NAME` names, anywhere in the values."""
    if isinstance(value, str) and value.startswith("env:"):
        yield value.removeprefix("env:")
    elif isinstance(value, Mapping | list):
        for each in value.values() if isinstance(value, Mapping) else value:
            yield from _named_variables(each)


def _resolve(value: str, environment: Mapping[str, str], folder: Path, *, is_dest: bool) -> str:
    """The value behind `env:NAME` or `file:PATH`; a variable may name a file. For DEST, `file:///…` is the address."""
    if value.startswith("env:"):
        name = value.removeprefix("env:")
        if name not in environment:
            raise LookupError(f'"{value}": the variable {name} is not set')
        value = environment[name]
    if value.startswith("file:") and not (is_dest and value.startswith("file://")):
        return _read_secret(folder / value.removeprefix("file:").removeprefix("//"), value)
    return value


def _read_secret(path: Path, reference: str) -> str:
    try:
        return text_of(path.read_bytes()).strip()
    except (OSError, UnicodeDecodeError) as trouble:
        raise LookupError(f'"{reference}": {path} cannot be read ({in_words(trouble)})') from None
