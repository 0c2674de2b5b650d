"""One worker at a time on a SQLite ledger: the lock beside its file, and who holds it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from jobs.command_lines import verb
from jobs.errors import LedgerBusy, LightfastError
from jobs.formatting import utc
from jobs.ledger.database.engine import Database


@contextlib.contextmanager
def worker_lock(database: Database, *, serves: bool = False) -> Iterator[None]:
    """The file lock beside a SQLite ledger. Having it proves that every earlier holder is dead: the system frees it.

    `serves`: the holder works on everything on record, and on what comes later.
    """
    if database.path is None:
        yield
        return
    path = database.path.with_name(database.path.name + ".lock")
    with _opened(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LedgerBusy(who_holds(file.name)) from None
        _sign(file.fileno(), serves=serves)
        yield


def _opened(path: Path) -> TextIO:
    try:
        return path.open("a+")
    except OSError as error:
        raise LightfastError(
            f"the ledger {path.with_suffix('')} cannot be worked on: {path} cannot be written ({error.strerror}). "
            "Allow this user to write to its folder. Nothing was spent."
        ) from error


def is_locked(database: Database) -> bool:
    """Whether somebody works on a SQLite ledger. Where its folder may not be written, a look at the lock is enough."""
    if database.path is None:
        return False
    try:
        with database.path.with_name(database.path.name + ".lock").open("r") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # two who look do not take each other for a worker
    except BlockingIOError:
        return True
    except OSError:  # nobody has ever worked on it, or it cannot be seen
        return False
    return False


def is_served(database: Database) -> bool:
    """Whether somebody works on everything that a SQLite ledger holds, and on what is recorded there now."""
    if database.path is None or not is_locked(database):
        return False
    try:
        signed = json.loads(database.path.with_name(database.path.name + ".lock").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(signed, dict) and bool(signed.get("serves"))


def _sign(descriptor: int, *, serves: bool) -> None:
    signed = {"pid": os.getpid(), "host": platform.node(), "since": utc(time.time()), "serves": serves}
    signed |= {"command": verb()}
    holder = json.dumps(signed)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, holder.encode(), 0)


def who_holds(path: str) -> str:
    """Who works on the ledger beside which this lock lies, and that only one may."""
    try:
        holder = json.loads(Path(path).read_text(encoding="utf-8"))
        what = f" ({holder['command']})" if holder.get("command") else ""
        who = f"process {holder['pid']} on {holder['host']} since {holder['since']}{what}"
    except (OSError, ValueError, KeyError):
        who = "another process"
    return (
        f"the ledger {path.removesuffix('.lock')} is worked on by {who}. One `run` works on a SQLite ledger at a time."
    )
