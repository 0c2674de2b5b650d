"""`lightfast …` as a process of its own, with its imports done before: most of a short command's second is imports."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from tests.support import ROOT
from tests.support.patience import AT_LAST

HERE = Path(__file__).parent

#: No thread, connection or running loop is in the process that is copied for each command.
_BEFORE = (
    *(
        "cli.main",
        "cli.commands.run",
        "cli.commands.plan",
        "cli.commands.status",
        "cli.commands.steer",
        "cli.commands.again",
        "cli.commands.unknown",
    ),
    *("cli.commands.verify", "cli.commands.adopt", "worker.local.run", "worker.services"),
)
_WARM = multiprocessing.get_context("forkserver")
_WARM.set_forkserver_preload([__name__, *_BEFORE])


class Started:
    """A process that runs; like `subprocess.Popen`, with its output in files, so that it never waits for a reader."""

    def __init__(
        self, arguments: tuple[str, ...], environment: Mapping[str, str], *, stdin: bytes = b"", cwd: Path | None = None
    ) -> None:
        self.args = arguments
        self._files = [tempfile.TemporaryFile() for _ in range(3)]  # noqa: SIM115  closed when it has ended
        self._files[0].write(stdin)
        self._files[0].seek(0)
        files = [_WARM.reducer.DupFd(file.fileno()) for file in self._files]
        self._process = _WARM.Process(target=_be, args=(arguments, dict(environment), str(cwd or Path.cwd()), files))
        self._process.start()
        self._said: tuple[str, str] | None = None

    @property
    def pid(self) -> int:
        return self._process.pid or 0

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float = AT_LAST) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(self.args, timeout)
        return self._process.exitcode

    def says(self) -> str:
        """What it has written so far to stderr and stdout."""
        return "".join(os.pread(file.fileno(), 1 << 20, 0).decode(errors="replace") for file in self._files[1:])

    def communicate(self, timeout: float = AT_LAST) -> tuple[str, str]:
        """What it wrote, once it has ended."""
        if self._said is None:
            self.wait(timeout)
            _, out, err = self._files
            self._said = _text(out), _text(err)
            for file in self._files:
                file.close()
        return self._said


def bare_environment() -> dict[str, str]:
    """What of this process's environment a user's terminal has at least."""
    return {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}


def account_settings(*accounts: str, **values: object) -> dict[str, str]:
    """The variables of these settings of each account, named as in variables: `MAXAPI_IO`, `first_poll_after=0.2`."""
    return {
        f"LIGHTFAST_ACCOUNTS__{account}__{name.upper()}": str(value)
        for account in accounts
        for name, value in values.items()
    }


def lightfast(
    *arguments: str,
    environment: Mapping[str, str],
    stdin: bytes = b"",
    cwd: Path | None = None,
    timeout: float = AT_LAST,
) -> subprocess.CompletedProcess[str]:
    """The command's end, with what it wrote; nothing of the test's environment but `environment` is seen by it."""
    process = Started(("lightfast", *arguments), environment, stdin=stdin, cwd=cwd)
    try:
        out, err = process.communicate(timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    return subprocess.CompletedProcess(arguments, process.returncode or 0, out, err)


def run_here(folder: Path, *arguments: object, **environment: str) -> Started:
    """`run_here.py`: a local run in that folder, to be killed."""
    return Started(("run_here.py", str(folder), *map(str, arguments)), environment, cwd=folder)


def _be(arguments: tuple[str, ...], environment: dict[str, str], cwd: str, files: list) -> None:
    for number, file in enumerate(files):
        os.dup2(file.detach(), number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    sys.stdin = os.fdopen(0)  # the one it was born with reads nothing
    sys.argv = list(arguments)
    if arguments[0] != "lightfast":
        sys.path.insert(0, str(ROOT))
        runpy.run_path(str(HERE / arguments[0]), run_name="__main__")
        return
    from cli.main import main  # noqa: PLC0415  imported before

    main()


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()
