"""`lightfast …` as a process of its own, with its imports done before: most of a short command's second is imports."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO

#: No thread, connection or running loop is in the process that is copied for each command.
_BEFORE = ("cli.main", "cli.run", "cli.plan", "cli.report", "cli.steer", "cli.verify", "cli.adopt", "worker.local")
_WARM = multiprocessing.get_context("forkserver")
_WARM.set_forkserver_preload([__name__, *_BEFORE])


def lightfast(
    *arguments: str,
    environment: Mapping[str, str],
    stdin: bytes = b"",
    cwd: Path | None = None,
    timeout: float = 90,
) -> subprocess.CompletedProcess[str]:
    """The command's end, with what it wrote; nothing of the test's environment but `environment` is seen by it."""
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        given.write(stdin)
        given.seek(0)
        files = [_WARM.reducer.DupFd(file.fileno()) for file in (given, out, err)]
        process = _WARM.Process(target=_be, args=(arguments, dict(environment), str(cwd or Path.cwd()), files))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(arguments, timeout, _text(out), _text(err))
        return subprocess.CompletedProcess(arguments, process.exitcode, _text(out), _text(err))


def _be(arguments: tuple[str, ...], environment: dict[str, str], cwd: str, files: list) -> None:
    for number, file in enumerate(files):
        os.dup2(file.detach(), number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    sys.stdin = os.fdopen(0)  # the one it was born with reads nothing
    sys.argv = ["lightfast", *arguments]
    from cli.main import main  # noqa: PLC0415  imported before

    main()


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()
