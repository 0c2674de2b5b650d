"""Settings: what can be set, and how it must look. Where the values come from: `jobs.settings.sources`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from jobs.settings.notifications import NAME, WEBHOOK, WebhookSettings, split, unknown
from jobs.settings.proxies import NO_PROXIES, Proxies
from jobs.settings.redis_address import read_redis_url
from providers.registry import API_PATHS, BASE_URLS, DIALECTS, PROVIDERS

#: One in a day at least: of less, an interval has no end that a clock can hold.
PerSecond = Annotated[float, Field(ge=1 / 86_400, le=10_000, allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]
Dollars = Annotated[float, Field(ge=0, le=1_000_000_000, allow_inf_nan=False)]


class AccountSettings(BaseModel):
    """One API key at a provider, with its own limits."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    provider: str
    api_key: SecretStr
    base_url: str = ""
    submits_per_second: PerSecond | None = None
    polls_per_second: PerSecond | None = None
    max_in_flight: Annotated[int, Field(ge=1, le=100_000)] | None = None
    daily_budget: Dollars | None = None  # USD a UTC day; 0: nothing may be spent; None: no budget
    first_poll_after: Seconds | None = None
    poll_every: Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)] | None = None
    polling: Literal["prompt", "thrifty"] = "prompt"  # results found early, or with fewer polls
    route_mode: str | None = None  # maxapi.dev's own route; unset: the cheapest that has a price
    webhook_base_url: str = ""
    prices: dict[str, dict[str, Dollars]] = Field(default_factory=dict)

    @field_validator("provider")
    @classmethod
    def _is_known(cls, provider: str) -> str:
        if provider not in PROVIDERS:
            raise ValueError(f"should be one of {', '.join(PROVIDERS)}")
        return provider

    @field_validator("api_key")
    @classmethod
    def _key_is_usable(cls, key: SecretStr) -> SecretStr:
        text = key.get_secret_value().strip()
        if not text or not text.isascii() or not text.isprintable() or " " in text:
            raise ValueError("should be a key: printable ASCII characters without spaces")
        return SecretStr(text)

    @field_validator("base_url", "webhook_base_url")
    @classmethod
    def _is_http(cls, url: str) -> str:
        return _http_url(url)

    def model_post_init(self, _context: object, /) -> None:
        """The base URL without the API's own path; the provider's usual one where none is set."""
        base = self.base_url or BASE_URLS[self.provider]
        object.__setattr__(self, "base_url", base.rstrip("/").removesuffix(API_PATHS[self.provider]).rstrip("/"))

    @property
    def key_header(self) -> str:
        """The header in which its provider takes the key."""
        return DIALECTS[self.provider].key_header


#: What providers and CDNs are told that asks them. True, and in the form that browser checks let through: some refuse
#: every agent that does not begin so.
USER_AGENT = "Mozilla/5.0 (compatible; lightfast)"


class Storage(BaseModel):
    """Where images go by default, and the address people can open them at."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    to: str = ""
    public_url: str = ""
    archive: str = ""  # where `prune` writes archives; "": below each batch's own destination
    files: str = ""  # of programs, by OpenAI's API; "": beside an SQLite ledger, else below `to`

    @field_validator("public_url")
    @classmethod
    def _is_http(cls, url: str) -> str:
        return _http_url(url)


def modified(file: Path) -> int | None:
    """When a file was modified, in nanoseconds; None: there is none that can be looked at."""
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return None


class Settings(BaseSettings):
    """Everything that can be set. Made by `load_settings`."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid")

    database_url: str = Field(default="sqlite:///lightfast.db", repr=False)
    redis_url: str = Field(default="redis://localhost:6379/0", repr=False)
    proxy: SecretStr | None = None  # for provider calls and downloads, in place of HTTPS_PROXY and HTTP_PROXY
    allow_private_hosts: bool = False
    retries: Annotated[int, Field(ge=0, le=20)] = 2  # new attempts after a failed provider task
    on_unknown: Literal["hold", "pay-again"] = "hold"
    unknown_budget: Dollars = 0.0  # USD a batch
    daily_budget: Dollars | None = None  # USD a UTC day, of all accounts together; 0 and None as of an account
    user_agent: Annotated[str, Field(pattern=r"^[!-~]([ -~]{0,298}[!-~])?$")] = USER_AGENT  # to providers and CDNs
    drain_seconds: Seconds = 25.0
    heartbeat_file: str = ""
    log: Literal["text", "json"] = "text"
    accounts: dict[str, AccountSettings] = Field(default_factory=dict)
    storage: Storage = Field(default_factory=Storage)
    notify: tuple[SecretStr, ...] = ()  # addresses of people, who hear of everything
    channels: dict[str, SecretStr] = Field(default_factory=dict)  # more, by names that --notify gives
    webhook: WebhookSettings | None = None  # the address of a program, which hears of everything
    sandbox: bool = False  # every account is the stand-in, and the ledger is thrown away

    _source: Path | None = PrivateAttr(default=None)
    _sandbox: bool = PrivateAttr(default=False)
    _names_ledger: bool = PrivateAttr(default=True)
    _proxies: Proxies = PrivateAttr(default=NO_PROXIES)
    _ignored_variables: tuple[str, ...] = PrivateAttr(default=())
    _files: Mapping[Path, int | None] = PrivateAttr(default_factory=dict)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003  the library's signature
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003  pydantic gives it by name
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  pydantic gives it by name  pydantic gives it by name
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003  pydantic gives it by name
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what `load_settings` has merged."""
        return (init_settings,)

    @property
    def source(self) -> Path | None:
        """The lightfast.toml in use."""
        return self._source

    @property
    def proxies(self) -> Proxies:
        """The proxies that lead to providers and links."""
        return self._proxies

    @property
    def ignored_variables(self) -> tuple[str, ...]:
        """A sentence about each variable with our prefix that is no setting."""
        return self._ignored_variables

    @property
    def is_sandbox(self) -> bool:
        """True when every account points at the stand-in."""
        return self._sandbox or self.sandbox

    @property
    def names_ledger(self) -> bool:
        """Whether somebody said which ledger is meant. Else it is the file of the usual name in this folder."""
        return self._names_ledger

    @property
    def database_path(self) -> Path | None:
        """The SQLite file; None on PostgreSQL."""
        if not self.database_url.startswith("sqlite:///"):
            return None
        return Path(self.database_url.removeprefix("sqlite:///").partition("?")[0])

    @field_validator("database_url")
    @classmethod
    def _is_a_database(cls, url: str) -> str:
        scheme, _, rest = url.partition("://")
        if scheme in ("postgres", "postgresql", "postgresql+psycopg") and _is_address(url):
            return f"postgresql+psycopg://{rest}"
        path = rest.partition("?")[0].removeprefix("/")
        if scheme == "sqlite" and rest.startswith("/") and path and ":memory:" not in path:
            return url
        raise ValueError("should be sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME")

    @field_validator("redis_url")
    @classmethod
    def _is_redis(cls, url: str) -> str:
        read_redis_url(url)
        return url

    @field_validator("accounts")
    @classmethod
    def _names_are_plain(cls, accounts: dict[str, AccountSettings]) -> dict[str, AccountSettings]:
        bad = [name for name in accounts if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", name)]
        if bad:
            raise ValueError(f"account names should be letters, digits, . _ -; not {', '.join(map(repr, bad))}")
        return accounts

    @field_validator("notify", mode="before")
    @classmethod
    def _are_listed(cls, value: object) -> object:
        return split(value)

    @field_validator("notify")
    @classmethod
    def _are_known(cls, addresses: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        if bad := unknown(addresses):
            raise ValueError(f"{', '.join(bad)}: should be an address that the library apprise knows")
        return addresses

    @field_validator("channels")
    @classmethod
    def _can_be_named(cls, channels: dict[str, SecretStr]) -> dict[str, SecretStr]:
        bad = [name for name in channels if not NAME.fullmatch(name) or name == WEBHOOK]
        if bad:
            raise ValueError(
                f"names should be letters, digits, . _ -, and not {WEBHOOK}; not {', '.join(map(repr, bad))}"
            )
        for name, address in channels.items():
            if wrong := unknown([address]):
                raise ValueError(f"{name}, {wrong[0]}: should be an address that the library apprise knows")
        return channels

    @field_validator("sandbox")
    @classmethod
    def _reaches_no_real_provider(cls, sandbox: bool, known: ValidationInfo) -> bool:  # noqa: FBT001  the library's
        accounts: dict[str, AccountSettings] = known.data.get("accounts", {})
        real = [name for name, each in accounts.items() if each.base_url == BASE_URLS[each.provider]]
        if sandbox and real:
            raise ValueError(f"account {real[0]} goes to the real provider: give it the stand-in's base_url")
        return sandbox

    @property
    def changed_files(self) -> list[str]:
        """The names of the files of settings that were changed, made or removed since these were read."""
        return [file.name for file, before in self._files.items() if modified(file) != before]

    def placed(
        self,
        source: Path | None,
        folder: Path,
        *,
        sandbox: bool,
        proxies: Proxies,
        ignored_variables: Sequence[str] = (),
        files: Mapping[Path, int | None] | None = None,
    ) -> Settings:
        """These settings as read from `source`. A relative SQLite path counts from the folder.

        `files`: when each that counts was modified before it was read, as `modified` tells.
        """
        names_ledger = "database_url" in self.model_fields_set and not sandbox
        settings, path = self, self.database_path
        if path is not None:
            query = self.database_url.partition("?")[2]
            url = _sqlite_url(folder / path) + (f"?{query}" if query else "")
            settings = self.model_copy(update={"database_url": url})
        settings._source = source  # noqa: SLF001  of its own class
        settings._sandbox = sandbox  # noqa: SLF001  of its own class
        settings._names_ledger = names_ledger  # noqa: SLF001  of its own class
        settings._proxies = proxies  # noqa: SLF001  of its own class
        settings._ignored_variables = tuple(ignored_variables)  # noqa: SLF001  of its own class
        settings._files = dict(files or {})  # noqa: SLF001  of its own class
        return settings

    def with_database(self, path: Path) -> Settings:
        """The same settings on another SQLite file."""
        settings = self.model_copy(update={"database_url": _sqlite_url(path)})
        settings._names_ledger = True  # noqa: SLF001  of its own class
        return settings


def _is_address(url: str) -> bool:
    try:
        return urlsplit(url).port != 0
    except ValueError:  # a port that is no number, a bracket that is not closed
        return False


def _http_url(url: str) -> str:
    if not url:
        return url
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.query or parts.fragment or any(c.isspace() for c in url):
        raise ValueError("should be an address like https://host, without ? and #")
    return url.rstrip("/")


def _sqlite_url(path: Path) -> str:
    return f"sqlite:///{path}"
