"""Which submits have left, on a file beside a SQLite ledger: one line each, written before the first byte goes.

A claim takes attempts some time before they are sent. When their process is killed, this list tells those that never
left, which are free to go, from those nobody can know about. A killed process loses nothing it has written, since the
system keeps it; a machine that dies may: so the list is believed only under the boot it was written in, and only for
attempts of the process that wrote it. Without a list to believe, every attempt may have left.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """Changes whenever the machine starts; empty where the system does not tell."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""


@dataclass(slots=True, kw_only=True)
class SendJournal:
    """The list. `path`: None where there is none to be had (PostgreSQL, memory)."""

    path: Path | None
    _file: int | None = None
    _given_up: bool = False

    def begin(self, holder: str) -> None:
        """Before the first claim of a process: from now on, what is not on the list has not left."""
        if self.path is None or self._file is not None or self._given_up:
            return
        try:
            self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        except OSError:
            self._give_up()
        else:
            self._write(json.dumps({"boot": boot_id(), "holder": holder}))

    def note(self, attempt_id: int) -> None:
        """This attempt leaves now."""
        if self._file is not None:
            self._write(str(attempt_id))

    def never_left(self, attempts: list[tuple[int, str | None]]) -> set[int]:
        """Of a dead process's attempts (id, holder), those that were certainly not sent."""
        holder, sent = self._read()
        return {number for number, by in attempts if holder and by == holder and number not in sent}

    def forget(self) -> None:
        """Takes the list away: everything on it is on record, or may have left."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _write(self, text: str) -> None:
        line = f"{text}\n".encode()
        try:
            whole = self._file is not None and os.write(self._file, line) == len(line)
        except OSError:
            whole = False
        if not whole:
            self._give_up()

    def _give_up(self) -> None:
        """A list with a gap would lie: without one, all may have left. If even that fails, nothing leaves."""
        self._given_up = True
        self.forget()

    def _read(self) -> tuple[str, set[int]]:
        """Who wrote it, and what left; nobody, if it cannot be believed."""
        try:
            head, *lines = (self.path or Path(os.devnull)).read_text(encoding="ascii").splitlines()
            told = json.loads(head)
            believed = bool(told["boot"]) and told["boot"] == boot_id()
            return (told["holder"], {int(line) for line in lines}) if believed else ("", set())
        except (OSError, ValueError, KeyError, TypeError):
            return "", set()
