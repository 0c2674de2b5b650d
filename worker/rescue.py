"""Facts the ledger could not take, in a local file that is replayed at the next start.

One JSON object a line: `{"fact": "SubmitAccepted", …}`. The writer holds a file lock, so no other process replays a
file that may still grow. Replaying is recording again, and recording twice changes nothing.
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import secrets
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, get_args

from jobs.ledger.values import Fact
from worker.telemetry import emit

_FACTS = {kind.__name__: kind for kind in get_args(Fact)}


class Rescue:
    """The rescue file of one process, and those that others left."""

    def __init__(self, folder: Path, ledger_id: str) -> None:
        # The second folder is for the day on which the ledger's disk is full.
        self._folders = (folder, Path(tempfile.gettempdir()))
        self._stem = f"lightfast-rescue-{ledger_id[:12]}"
        self._file: IO[bytes] | None = None

    @property
    def name(self) -> str | None:
        """The file's full name; None while there is nothing to rescue."""
        return self._file.name if self._file else None

    def save(self, facts: Sequence[Fact]) -> None:
        """Appends facts and returns when they are on disk."""
        if not facts:
            return
        file = self._file = self._file or self._create()
        file.write(b"".join(_line(fact) for fact in facts))
        file.flush()
        os.fsync(file.fileno())

    def clear(self) -> None:
        """Everything saved has become durable in the ledger."""
        if self._file:
            Path(self._file.name).unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Leaves the file to whoever replays it."""
        if self._file:
            self._file.close()
            self._file = None

    def replay(self, record: Callable[[Sequence[Fact]], object]) -> int:
        """Records what dead processes left, and removes their files; the number of facts."""
        return sum(self._replay_file(path, record) for path in self._left())

    def _create(self) -> IO[bytes]:
        for folder in self._folders:
            try:
                return _locked(folder, self._stem)
            except OSError as trouble:
                emit("rescue_folder_refuses", level="warning", folder=str(folder), problem=str(trouble))
        raise OSError(f"no folder takes a rescue file: {', '.join(map(str, self._folders))}")

    def _left(self) -> Iterator[Path]:
        own = Path(self._file.name) if self._file else None
        for folder in self._folders:
            yield from (path for path in sorted(folder.glob(f"{self._stem}-*.jsonl")) if path != own)

    def _replay_file(self, path: Path, record: Callable[[Sequence[Fact]], object]) -> int:
        with path.open("rb") as file:
            if not _lock(file):
                return 0
            facts = [fact for line in file if (fact := _read(line)) is not None]
            for fact in facts:  # one by one: a single bad one must not hold back the others
                record([fact])
            path.unlink(missing_ok=True)
        emit("rescue_replayed", level="warning", file=str(path), facts=len(facts))
        return len(facts)


def _locked(folder: Path, stem: str) -> IO[bytes]:
    path = folder / f"{stem}-{os.getpid()}-{secrets.token_hex(4)}.jsonl"
    file = path.open("xb")  # kept open, and locked, as long as the process lives
    try:
        _lock(file)
        file.write(b"\n")  # a full disk says so here, while there is still another folder to try
        file.flush()
        _sync_folder(folder)
    except OSError:
        path.unlink(missing_ok=True)
        file.close()
        raise
    return file


def _lock(file: IO[bytes]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _sync_folder(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _line(fact: Fact) -> bytes:
    # The standard library's JSON, since it keeps infinity and escapes lone surrogates.
    return json.dumps({"fact": type(fact).__name__, **dataclasses.asdict(fact)}).encode() + b"\n"


def _read(line: bytes) -> Fact | None:
    from pydantic import TypeAdapter  # noqa: PLC0415  a start without a rescue file shall not pay for it

    try:
        values = json.loads(line)
        fact: Fact = TypeAdapter(_FACTS[values.pop("fact")]).validate_python(values)
    except ValueError:
        if line.strip():  # the last line of a process that died while it wrote
            emit("rescue_line_unreadable", level="error", line=line[:200].decode("utf-8", "replace"))
        return None
    return fact
