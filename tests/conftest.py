"""What many tests share: real servers, a ledger on both databases, and a wall around 127.0.0.1."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import os
import socket
import sys
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import boto3
import hypothesis
import pytest
import structlog

from sandbox import cluster, servers
from tests.support.patience import AT_LAST
from tests.support.virtual_time import RealLoop, VirtualLoop

# As the program's own: structlog's are drawn by rich, with the values of all variables, for seconds of CPU each.
structlog.configure(
    processors=[
        *structlog.get_config()["processors"][:-1],
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
    ]
)

# How many examples are tried does not depend on how fast the machine is. `--hypothesis-profile=long` tries more, where
# a test gives no number of its own.
for _name, _examples in (("short", 30), ("long", 1000)):
    hypothesis.settings.register_profile(
        _name, max_examples=_examples, deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
    )
hypothesis.settings.load_profile("short")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """A bucket of its own at the S3 server; the AWS variables lead to it."""

    server: servers.S3
    name: str
    client: Any

    @property
    def url(self) -> str:
        return f"s3://{self.name}"

    def keys(self, prefix: str = "") -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
        return [item["Key"] for page in pages for item in page.get("Contents", [])]

    def read(self, key: str) -> bytes:
        body: bytes = self.client.get_object(Bucket=self.name, Key=key)["Body"].read()
        return body


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """The stand-in for the providers, and the other side of its counter."""

    url: str

    @property
    def settings(self) -> dict[str, str]:
        """The variables that lead to it."""
        providers = {"MAXAPI_IO": "maxapi.io", "MAXAPI_DEV": "maxapi.dev", "APIMASTER": "apimaster"}
        return {
            "LIGHTFAST_ALLOW_PRIVATE_HOSTS": "1",
            **{f"{name}_API_KEY": "sandbox-key" for name in providers},
            **{f"{name}_BASE_URL": f"{self.url}/{provider}" for name, provider in providers.items()},
        }

    def stats(self) -> Any:
        """`total`: submits, accepted, charged_images, money …; the same in `providers`; `repeated_prompts`."""
        return self._ask("stats")

    def tasks(self, prompt: str = "") -> Any:
        """Accepted tasks whose prompt holds that text."""
        return self._ask(f"tasks?{urllib.parse.urlencode({'prompt': prompt})}")["tasks"]

    def submits(self) -> Any:
        """Every submit that arrived with a good key."""
        return self._ask("submits")["submits"]

    def play(self, **scenario: Any) -> None:
        """Another scenario from now on: `play(pictures={"tiny": True}, rules=[…])`."""
        self._ask("scenario", scenario)

    def finish(self, prompt: str = "") -> None:
        """Ends all tasks that run, stuck ones too, if their prompt has that part."""
        self._ask("finish", {"prompt": prompt})

    def answer(self) -> None:
        """Gives the answers that hang; none hangs until the next scenario."""
        self._ask("answer", {})

    def reset(self) -> None:
        """Forgets what happened."""
        self._ask("reset", {})

    def _ask(self, what: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        asked = urllib.request.Request(f"{self.url}/_control/{what}", data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(asked, timeout=AT_LAST) as answer:
            return json.load(answer)


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Tests marked `virtual_time` wait for nothing; `real_time` leaves one of a module out."""
    is_virtual = item.get_closest_marker("virtual_time") and not item.get_closest_marker("real_time")
    return {"virtual": VirtualLoop} if is_virtual else {"real": RealLoop}


@pytest.fixture(autouse=True)
def only_this_machine(monkeypatch):
    """No test reaches beyond 127.0.0.1, whatever a mistake in it asks for."""
    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, _walled(getattr(socket.socket, name)))


@pytest.fixture(autouse=True)
def nobodys_settings(monkeypatch, tmp_path):
    """A developer's own keys, settings and AWS profile are out of sight, and each test has a folder to itself."""
    for name in _names_of_settings():
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def worlds_are_closed(request, monkeypatch):
    """The workers that a test opened with `worker_world.world` end with it, on its loop, before patches are undone."""
    if request.node.get_closest_marker("asyncio"):
        request.getfixturevalue("close_worlds")


@pytest.fixture
async def close_worlds() -> AsyncIterator[None]:
    """At its end, closes what `worker_world.world` has opened, if a test has imported it at all."""
    yield
    if (worker_world := sys.modules.get("tests.support.worker_world")) is not None:
        await worker_world.close_all()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[servers.Postgres]:
    with servers.postgres() as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server) -> str:
    """A new, empty database."""
    return postgres_server.new_database()


@pytest.fixture(scope="session")
def ledger_template(postgres_server) -> str:
    """The name of a database that holds an empty ledger; a copy of it costs a tenth of a migration."""
    from jobs.ledger import open_ledger  # noqa: PLC0415  most tests need no SQL

    url = postgres_server.new_database()
    open_ledger(url).close()
    return url.rpartition("/")[2]


@pytest.fixture
def postgres_ledger_url(postgres_server, ledger_template) -> str:
    """A new database with an empty ledger in it."""
    return postgres_server.new_database(ledger_template)


@pytest.fixture
def sqlite_ledger_url(tmp_path) -> str:
    """A new file with an empty ledger in it."""
    from tests.support.ledger_files import new_ledger  # noqa: PLC0415  most tests need no SQL

    return new_ledger(tmp_path / "ledger.db")


@pytest.fixture(params=["sqlite", "postgres"])
def ledger_url(request) -> str:
    """The address of an empty ledger, once on each database."""
    return request.getfixturevalue(f"{request.param}_ledger_url")


@pytest.fixture
def ledger(ledger_url) -> Iterator[Any]:
    """An empty ledger, once on each database."""
    from jobs.ledger import open_ledger  # noqa: PLC0415  most tests need no SQL

    with contextlib.closing(open_ledger(ledger_url)) as opened:
        yield opened


@pytest.fixture(scope="session")
def redis_server() -> Iterator[servers.Valkey]:
    with servers.valkey() as server:
        yield server


@pytest.fixture
def redis_url(redis_server) -> str:
    """An empty Redis (Valkey), shared by one test after the other."""
    redis_server.flush()
    return redis_server.url


@pytest.fixture(scope="session")
def s3_server() -> Iterator[servers.S3]:
    with servers.s3() as server:
        yield server


@pytest.fixture
def s3(s3_server, monkeypatch) -> Bucket:
    """A new bucket; the AWS variables of this process lead to it."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return Bucket(server=s3_server, name=s3_server.new_bucket(), client=boto3.client("s3"))


@pytest.fixture(scope="session")
def sandbox_server(tmp_path_factory) -> Iterator[servers.Server]:
    with cluster.stand_in(tmp_path_factory.mktemp("sandbox")) as server:
        yield server


@pytest.fixture
def sandbox(sandbox_server) -> Sandbox:
    """The stand-in, a process of its own, with nothing on its books."""
    stand_in = Sandbox(url=sandbox_server.url)
    stand_in.play()
    stand_in.reset()
    return stand_in


def _walled(connect: Callable[[socket.socket, Any], Any]) -> Callable[[socket.socket, Any], Any]:
    def connect_here_only(self: socket.socket, address: Any) -> Any:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_here(str(address[0])):
            raise AssertionError(f"a test tried to reach {address}")
        return connect(self, address)

    return connect_here_only


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _names_of_settings() -> list[str]:
    mine = ("LIGHTFAST_", "AWS_", "MAXAPI_", "APIMASTER_", "PORT")
    return [name for name in os.environ if name.startswith(mine)]
