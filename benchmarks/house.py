"""`lightfast serve` and `lightfast run` beside each other on one SQLite ledger, with the stand-in, as processes."""

from __future__ import annotations

import contextlib
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import LIGHTFAST, clean_environment
from sandbox.servers import free_port

START = 30.0  # seconds

SETTINGS = """
allow_private_hosts = true
[accounts.main]
provider = "maxapi.io"
api_key = "sandbox-key"
base_url = "{sandbox}/maxapi.io"
webhook_base_url = "{callbacks}"
polls_per_second = 50.0
{more}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """A folder with settings and a web door that runs."""

    folder: Path
    port: int
    web: subprocess.Popen[bytes]

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """A `lightfast` command in this folder; what it says goes to a file."""
        with (self.folder / f"{arguments[0]}.log").open("ab") as log:
            return subprocess.Popen(
                [LIGHTFAST, *arguments],
                cwd=self.folder,
                env=clean_environment({}),
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def said(self) -> str:
        """Everything that was said so far."""
        return "\n".join(log.read_text(errors="replace") for log in self.folder.glob("*.log"))

    def page(self, path: str) -> str:
        """What the door answers."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=20) as answer:
            text: str = answer.read().decode()
            return text

    def memory(self) -> int:
        """Bytes of memory the web process holds now."""
        for line in Path(f"/proc/{self.web.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) * 1024
        raise RuntimeError("the web process is gone")


@contextlib.contextmanager
def house(
    folder: Path, sandbox: str, more: Mapping[str, object] | None = None, *, hooks: bool = True
) -> Iterator[House]:
    """Its web door runs for the length of a block. `hooks`: whether providers are told of it."""
    port = free_port()
    lines = "\n".join(f"{name} = {value}" for name, value in (more or {}).items())
    callbacks = f"http://127.0.0.1:{port}" if hooks else ""
    (folder / "lightfast.toml").write_text(SETTINGS.format(sandbox=sandbox, callbacks=callbacks, more=lines))
    with served(folder, port) as here:
        yield here


@contextlib.contextmanager
def served(folder: Path, port: int) -> Iterator[House]:
    """`lightfast serve` by the settings of a folder."""
    with (folder / "serve.log").open("wb") as log:
        command = [LIGHTFAST, "serve", "--port", str(port), "--host", "127.0.0.1"]
        web = subprocess.Popen(command, cwd=folder, env=clean_environment({}), stdout=log, stderr=subprocess.STDOUT)
    here = House(folder=folder, port=port, web=web)
    try:
        _wait_until_ready(here)
        yield here
    finally:
        web.terminate()
        web.wait(START)


def _wait_until_ready(here: House) -> None:
    end = time.monotonic() + START
    while True:
        try:
            here.page("/readyz")
        except OSError:
            if time.monotonic() > end or here.web.poll() is not None:
                raise RuntimeError(f"the web door does not start: {here.said()}") from None
            time.sleep(0.1)
        else:
            return
