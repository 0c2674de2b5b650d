"""What many tests share: real servers, a ledger on both databases, and a wall around 127.0.0.1."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ipaddress
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import boto3
import hypothesis
import pytest
import structlog

from providers.registry import PROVIDERS, key_variable
from sandbox import cluster, servers
from tests.support.bucket import Bucket
from tests.support.sandbox_process import Sandbox
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


def pytest_collection_finish(session: pytest.Session) -> None:
    """Modules and collected tests stay: the garbage collector need not go through them again and again."""
    gc.collect()
    gc.freeze()


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
def postgres_ledgers(postgres_server) -> Any:
    """Databases with an empty ledger, for one test after the other."""
    from jobs.ledger import open_ledger  # noqa: PLC0415  most tests need no SQL
    from tests.support.postgres_ledgers import LedgerDatabases  # noqa: PLC0415  as above

    url = postgres_server.new_database()
    open_ledger(url).close()
    return LedgerDatabases(server=postgres_server, template=url.rpartition("/")[2])


@pytest.fixture
def postgres_ledger_url(postgres_ledgers) -> Iterator[str]:
    """A database with an empty ledger in it."""
    with postgres_ledgers.one() as url:
        yield url


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
    providers = (key_variable(provider).removesuffix("API_KEY") for provider in PROVIDERS)
    mine = ("LIGHTFAST_", "AWS_", "PORT", "SSL_CERT_", *providers)
    return [name for name in os.environ if name.startswith(mine) or name.lower().endswith("_proxy")]
