"""`make cluster`: the Procfile's processes on this machine, with real servers, against the stand-in.

It knows Lightfast by its Procfile, its command line and its settings only. Everything ends with it; what dies before
is started again, as a platform would.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sandbox import servers

ROOT = Path(__file__).parent.parent
FOLDER = Path(".cluster")
BUCKET = "images"
FORMATION = {"web": 1, "worker": 2, "beat": 1}  # `release` runs once, before them
GRACE = {"worker": 30.0}  # seconds a process has after SIGTERM; workers drain for 25
SHORT_GRACE = 3.0  # the others hold nothing, and a beat that is told to end while it rings may not hear it
RESTART_AFTER = 1.0  # seconds; a process that cannot start must not spin
PROVIDERS = {"maxapi-io": "maxapi.io", "maxapi-dev": "maxapi.dev", "apimaster": "apimaster"}
SANDBOX_KEY = "sandbox-key"
#: Celery warns whoever is root; here that is often a container's only user, and no message is pickled.
QUIET = {"PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": "ignore"}

ACCOUNT = """
[accounts.{name}]
provider = "{provider}"
api_key = "{key}"
base_url = "{sandbox}/{provider}"
polls_per_second = 50.0
first_poll_after = 1.0
poll_every = 1.0
"""
LIMITS = """submits_per_second = 20.0
max_in_flight = 40
"""
PRICES = """
[accounts.apimaster.prices]
"gpt-image-2" = { 1k = 0.03, 2k = 0.05, 4k = 0.08 }
"""

Say = Callable[[str], None]


@dataclass(kw_only=True)
class Member:
    """A process that is started again whenever it ends, until the cluster stops."""

    name: str
    command: str
    environment: Mapping[str, str]
    say: Say
    grace: float = SHORT_GRACE
    starts: int = 0
    pid: int = 0
    _stopping: threading.Event = field(default_factory=threading.Event)
    _keeper: subprocess.Popen[str] | None = None
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Starts it, and goes on watching it."""
        self._launch()
        self._thread = threading.Thread(target=self._watch, name=self.name)
        self._thread.start()

    def kill(self) -> None:
        """Ends it with -9; it is started again."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def begin_stop(self) -> None:
        """Asks it to end."""
        self._stopping.set()
        if self._keeper is not None:
            self._keeper.terminate()

    def finish_stop(self) -> None:
        """Returns when it has ended."""
        if self._thread is not None:
            self._thread.join()

    def _launch(self) -> None:
        self.starts += 1
        self._keeper, self.pid = servers.start_kept(
            ["/bin/sh", "-c", f"exec {self.command}"], env=self.environment, grace=self.grace
        )

    def _watch(self) -> None:
        while True:
            code = self._pass_on_output()
            if self._stopping.is_set():
                return
            self.say(f"{self.name:<9} | ended with {code}; it is started again")
            if self._stopping.wait(RESTART_AFTER):
                return
            self._launch()

    def _pass_on_output(self) -> int:
        keeper = self._keeper
        assert keeper is not None  # noqa: S101  only called after a launch
        assert keeper.stderr is not None  # noqa: S101  it is a pipe
        with keeper.stderr as lines:
            for line in lines:
                if line.strip():
                    self.say(f"{self.name:<9} | {line.rstrip()}")
        return keeper.wait()


@dataclass(kw_only=True)
class Cluster:
    """A running cluster: its servers, its processes, and the variables that lead to it."""

    redis: servers.Valkey
    database: servers.Postgres
    store: servers.S3
    stand_in: servers.Server
    environment: Mapping[str, str]
    members: list[Member]

    @property
    def workers(self) -> list[Member]:
        """The worker processes."""
        return [member for member in self.members if member.name.startswith("worker.")]


@contextlib.contextmanager
def cluster(
    *,
    folder: Path = FOLDER,
    formation: Mapping[str, int] = FORMATION,
    say: Say = print,
    scenario: Path | None = None,
    callbacks: bool = False,
    limits: str = LIMITS,
) -> Iterator[Cluster]:
    """Starts everything; ends it in order: first the processes, which need their servers to drain.

    `callbacks`: the stand-in calls the web process when a task of maxapi.io has ended. `limits`: lines of settings for
    each account.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (
        servers.valkey() as redis,
        servers.postgres() as database,
        servers.s3() as store,
        stand_in(folder, scenario=scenario) as provider,
    ):
        store.new_bucket(BUCKET)
        settings = _settings(redis, database, provider.url, limits)
        environment = _environment(folder, settings, store, provider.url, callbacks=callbacks)
        processes = members(environment, formation, say)
        try:
            _release(environment)
            for member in processes:
                member.start()
            yield Cluster(
                redis=redis,
                database=database,
                store=store,
                stand_in=provider,
                environment=environment,
                members=processes,
            )
        finally:
            for member in processes:
                member.begin_stop()
            for member in processes:
                member.finish_stop()


@contextlib.contextmanager
def stand_in(folder: Path, *, scenario: Path | None = None, port: int = 0) -> Iterator[servers.Server]:
    """The sandbox alone, as a process of its own."""
    port = port or servers.free_port()
    more = ["--scenario", str(scenario)] if scenario else []
    server = servers.Server(
        name="sandbox",
        url=f"http://127.0.0.1:{port}",
        folder=folder.absolute(),
        command=[sys.executable, "-m", "sandbox", "--port", str(port), *more],
        is_up=lambda: servers.answers(port, b"GET /livez HTTP/1.0\r\nHost: localhost\r\n\r\n", b"HTTP/1.0 200"),
    )
    yield from servers.running(server)


def read_procfile(path: Path) -> dict[str, str]:
    """The command of each kind of process."""
    lines = [line for line in path.read_text().splitlines() if line.strip() and not line.startswith("#")]
    return {name.strip(): command.strip() for name, _, command in (line.partition(":") for line in lines)}


def members(environment: Mapping[str, str], formation: Mapping[str, int], say: Say) -> list[Member]:
    """The Procfile's processes, as many of each kind as `formation` says; none is started."""
    commands = read_procfile(ROOT / "Procfile")
    return [
        Member(
            name=f"{kind}.{number}",
            command=commands[kind].replace("celery ", "celery --quiet ", 1)  # no banner
            + (f" --hostname worker.{number}@%h" if kind == "worker" else ""),
            environment=environment,
            say=say,
            grace=GRACE.get(kind, SHORT_GRACE),
        )
        for kind, count in formation.items()
        for number in range(1, count + 1)
    ]


def main() -> int:
    """Runs until Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.cluster", description=__doc__)
    parser.add_argument("--workers", type=int, default=FORMATION["worker"], help="worker processes (default: 2)")
    parser.add_argument("--scenario", type=Path, help="trouble on order, as for `lightfast sandbox`")
    options = parser.parse_args()
    stopped = servers.Signals(signal.SIGINT, signal.SIGTERM)
    with cluster(
        formation={**FORMATION, "worker": options.workers}, say=_say, scenario=options.scenario, callbacks=True
    ) as running:
        _explain(running)
        stopped.wait()
        _say("stopping: workers finish what is on its way ...")
    _say("stopped; the servers and what they held are gone, .cluster/ is only text")
    return 0


def _settings(redis: servers.Valkey, database: servers.Postgres, sandbox: str, limits: str) -> str:
    """The text of lightfast.toml."""
    accounts = [
        ACCOUNT.format(name=name, provider=provider, key=SANDBOX_KEY, sandbox=sandbox) + limits
        for name, provider in PROVIDERS.items()
    ]
    head = f'database_url = "{database.url}"\nredis_url = "{redis.url}"\nallow_private_hosts = true\nsandbox = true\n'
    return head + "".join(accounts) + PRICES


def _environment(folder: Path, settings: str, store: servers.S3, sandbox: str, *, callbacks: bool) -> dict[str, str]:
    """Writes the settings and the lines to paste; returns the whole environment of a process."""
    file = folder.absolute() / "lightfast.toml"
    file.write_text(settings)
    port, metrics_port = str(servers.free_port()), str(servers.free_port())
    hooks = {"LIGHTFAST_ACCOUNTS__MAXAPI_IO__WEBHOOK_BASE_URL": f"http://127.0.0.1:{port}"} if callbacks else {}
    files = {"LIGHTFAST_STORAGE__FILES": f"s3://{BUCKET}/.lightfast/files"}  # that programs send by OpenAI's API
    ours = {"LIGHTFAST_CONFIG": str(file), **files, **store.environment}
    lines = [f"export {name}={shlex.quote(value)}\n" for name, value in ours.items()]
    (folder / "env").write_text("".join(lines))
    example = (ROOT / "examples" / "catalog.csv").read_text()
    (folder / "catalog.csv").write_text(example.replace("{sandbox}", sandbox))
    programs = str(Path(sys.executable).parent)
    path = f"{programs}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    ports = {"WEB_HOST": "127.0.0.1", "PORT": port, "METRICS_PORT": metrics_port}
    return {**os.environ, **ours, "PATH": path, **ports, **hooks, **QUIET}


def _release(environment: Mapping[str, str]) -> None:
    command = read_procfile(ROOT / "Procfile")["release"]
    subprocess.run(["/bin/sh", "-c", command], env=dict(environment), check=True)  # noqa: S603  the Procfile is ours


def _explain(running: Cluster) -> None:
    workers = len(running.workers)
    _say(
        f"""
the cluster runs: {workers} workers, beat and web; Valkey, PostgreSQL, S3 and the providers' stand-in.
In another terminal, in this folder:

  . {FOLDER}/env
  .venv/bin/lightfast submit {FOLDER}/catalog.csv --to s3://{BUCKET} --yes
  .venv/bin/lightfast watch catalog

counts: http://127.0.0.1:{running.environment["METRICS_PORT"]}/metrics     end it: Ctrl-C
"""
    )


def _say(line: str) -> None:
    sys.stdout.write(f"{time.strftime('%H:%M:%SZ', time.gmtime())} {line}\n")  # whole lines: many threads speak
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
