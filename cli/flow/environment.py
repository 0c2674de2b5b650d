"""What a command needs: the stand-in for --sandbox, a destination that takes writes, its ownership mark."""

from __future__ import annotations

import contextlib
import fcntl
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from cli.flow.settings import read_settings
from cli.output.terminal import put
from jobs.errors import LightfastError

if TYPE_CHECKING:
    from jobs.settings.model import Settings
    from worker.storage.base import Probed, Store

#: Beside the sandbox's ledger: its port and what it accepted, so that a later run finds the same stand-in.
SANDBOX_PORT_FILE = "lightfast-sandbox.port"
SANDBOX_STATE_FILE = "lightfast-sandbox.jsonl"


# -- settings, with or without the stand-in ------------------------------------------------------------------------


@contextlib.contextmanager
def settings_for(config: Path | None, *, sandbox: bool, traceless: bool = False) -> Iterator[Settings]:
    """The settings; with --sandbox, of a stand-in that lives as long as this command, and may leave no file behind."""
    # What is wrong ends the command before anything is started.
    settings = read_settings(config, secrets_needed=not sandbox)
    if not sandbox:
        yield settings
        return
    folder = settings.source.parent if settings.source else Path.cwd()
    made = [folder / name for name in (SANDBOX_PORT_FILE, SANDBOX_STATE_FILE) if not (folder / name).exists()]
    try:
        with standin(folder) as url:
            yield read_settings(config, sandbox_url=url)
    finally:
        for file in made if traceless else []:
            file.unlink(missing_ok=True)


@contextlib.contextmanager
def standin(folder: Path) -> Iterator[str]:
    """A sandbox of this command's own; ends with it. Its port and its memory are kept in `folder`."""
    from sandbox.servers import Server, ServerError

    state = folder / SANDBOX_STATE_FILE
    with tempfile.TemporaryDirectory(prefix="lightfast-") as log_folder:
        with (folder / SANDBOX_PORT_FILE).open("a") as ports:
            # Until it listens: of two commands that begin at once each would take the port for free, and later the
            # other's stand-in for its own.
            fcntl.flock(ports, fcntl.LOCK_EX)
            port = _port_for(folder)
            server = Server(
                name="sandbox",
                url=f"http://127.0.0.1:{port}",
                folder=Path(log_folder),
                command=[sys.executable, "-m", "sandbox", "--port", str(port), "--state", str(state)],
                is_up=lambda: _listens(port),
            )
            try:
                server.start()
            except ServerError as trouble:
                raise LightfastError(str(trouble)) from None
        try:
            yield server.url
        finally:
            server.stop()


def _port_for(folder: Path) -> int:
    """The port of the last time if it is free, so that recorded links and tasks still work."""
    from sandbox.servers import free_port

    file = folder / SANDBOX_PORT_FILE
    with contextlib.suppress(OSError, ValueError):
        port = int(file.read_text(encoding="ascii"))
        if not _listens(port):
            return port
    port = free_port()
    file.write_text(str(port), encoding="ascii")
    return port


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def probe(dest: str) -> tuple[Store, Probed]:
    """Writes, reads and deletes an object at DEST; what works and may surprise is said. `BadInput`: it is wrong."""
    from worker.registration import destination

    store, probed = destination.probe(dest)
    for warning in probed.warnings:
        put(f"warning: {warning}")
    return store, probed


# -- the ledger that may not be there yet --------------------------------------------------------------------------


def ledger_line(settings: Settings) -> str:
    """Where the ledger is, and whether it is new."""
    path = settings.database_path
    if path is None:
        address = urlsplit(settings.database_url)  # the query may hold a password, too
        return f"{address.netloc.rpartition('@')[2]}{address.path}"
    return f"{path}{'' if path.exists() else ' (new)'}"
