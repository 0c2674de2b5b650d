"""What a command needs: the stand-in for --sandbox, a destination that takes writes, its ownership mark."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from cli.flow.settings import read_settings
from cli.output.terminal import put
from jobs.errors import BadInput, LightfastError, StoreError

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

    port = _port_for(folder)
    state = folder / SANDBOX_STATE_FILE
    with tempfile.TemporaryDirectory(prefix="lightfast-") as log_folder:
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


# -- the destination -----------------------------------------------------------------------------------------------


def probe(dest: str, *, tell: bool = True) -> tuple[Store, Probed]:
    """Writes, reads and deletes an object at DEST. A bucket that is wrong is wrong input. `tell`: writes warnings."""
    from worker.storage.opening import open_store

    try:
        store = open_store(dest)
        probed = store.probe()
    except StoreError as refused:
        text = f"{dest}: {refused.message} ({refused.code}). Nothing was spent."
        if _may_pass(refused):
            raise LightfastError(text) from None
        raise BadInput(text) from None
    for warning in probed.warnings if tell else ():
        put(f"warning: {warning}")
    return store, probed


def _may_pass(refused: StoreError) -> bool:
    """Whether it may pass by itself, unlike a missing bucket or a missing right."""
    return refused.retryable and not refused.denied and refused.code != "bucket_missing"


@contextlib.contextmanager
def trackless(dest: str) -> Iterator[None]:
    """Removes at the end what a probe of a folder made, and the folder itself if it was not there."""
    folder = Path(dest) if dest and "://" not in dest else None
    missing = [path for path in (folder, *folder.parents) if not os.path.lexists(path)] if folder else []
    try:
        yield
    finally:
        for path in [folder / ".lightfast" / "parts", folder / ".lightfast", *missing] if folder else []:
            with contextlib.suppress(OSError):  # not empty: something is kept there
                path.rmdir()


def check_mark(store: Store, batch: str, ledger_id: str | None) -> None:
    """Raises `BadInput` if another ledger has begun this batch. `ledger_id`: None if our ledger does not exist yet."""
    from worker.storage.ownership_mark import another, look

    found = look(store, batch)
    if found is not None and found.ledger != ledger_id:
        raise BadInput(another(store, batch, found))


# -- the ledger that may not be there yet --------------------------------------------------------------------------


def unmakeable(settings: Settings) -> str | None:
    """Why no SQLite ledger can be made where the settings say; None: it can, or there is one."""
    path = settings.database_path
    if path is None or path.exists():
        return None
    folder = next(each for each in path.parents if each.exists())
    if os.access(folder, os.W_OK | os.X_OK):
        return None
    return (
        f"the ledger {path} cannot be made: this user may not write to the folder {folder}. Allow it, work in another "
        "folder, or name a place in database_url."
    )


def ledger_line(settings: Settings) -> str:
    """Where the ledger is, and whether it is new."""
    path = settings.database_path
    if path is None:
        address = urlsplit(settings.database_url)  # the query may hold a password, too
        return f"{address.netloc.rpartition('@')[2]}{address.path}"
    return f"{path}{'' if path.exists() else ' (new)'}"
