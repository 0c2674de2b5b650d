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

from jobs.errors import LightfastError
from jobs.facts import Fact
from jobs.ledger import is_away
from worker.runtime.telemetry import emit

_FACTS = {kind.__name__: kind for kind in get_args(Fact)}


def _temporary() -> list[Path]:
    """The folder for temporary files, if there is one that can be written."""
    try:
        return [Path(tempfile.gettempdir())]
    except FileNotFoundError:
        return []


class RescueFile:
    """The rescue file of one process, and those that others left."""

    def __init__(self, folder: Path, ledger_id: str) -> None:
        # The second folder is for the day on which the ledger's disk is full.
        self._folders = (folder, *_temporary())
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
        lines = b"".join(_line(fact) for fact in facts)
        try:
            self._append(lines)
        except OSError as full:
            emit("rescue_folder_refuses", level="warning", folder=str(self._folders[0]), problem=str(full))
            self._move(lines)

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

    def _append(self, lines: bytes) -> None:
        file = self._file = self._file or self._create(self._folders)
        _write(file, lines)

    def _move(self, lines: bytes) -> None:
        """The disk of the file has filled up since it was begun: all of it goes on elsewhere."""
        before = self._file
        if before is None or Path(before.name).parent == self._folders[-1]:
            raise OSError("no folder takes a rescue file")
        file = self._create(self._folders[1:])
        _write(file, Path(before.name).read_bytes() + b"\n" + lines)
        self._file = file
        before.close()
        Path(before.name).unlink(missing_ok=True)

    def _create(self, folders: Sequence[Path]) -> IO[bytes]:
        for folder in folders:
            try:
                return _locked(folder, self._stem)
            except OSError as trouble:
                emit("rescue_folder_refuses", level="warning", folder=str(folder), problem=str(trouble))
        raise OSError(f"no folder takes a rescue file: {', '.join(map(str, folders))}")

    def _left(self) -> Iterator[Path]:
        own = Path(self._file.name) if self._file else None
        for folder in self._folders:
            yield from (path for path in sorted(folder.glob(f"{self._stem}-*.jsonl")) if path != own)

    def _replay_file(self, path: Path, record: Callable[[Sequence[Fact]], object]) -> int:
        with _readable(path) as file:
            if not _lock(file):
                return 0
            lines = [line for line in file if line.strip()]
            left = [line for line in lines if not _recorded(line, record)]
            try:
                if left:  # kept and told, and no reason not to start
                    _keep_aside(path, left)
                path.unlink(missing_ok=True)
            except OSError as kept:  # what is in it is on record, and recording it once more changes nothing
                emit("rescue_file_stays", level="warning", file=str(path), problem=str(kept))
        emit("rescue_replayed", level="warning", file=str(path), facts=len(lines) - len(left))
        return len(lines) - len(left)


def _readable(path: Path) -> IO[bytes]:
    """The file that a dead process left, perhaps of another user. Without what is in it nothing may be sent.

    Raises:
        LightfastError: It cannot be read.
    """
    try:
        return path.open("rb")
    except OSError as error:
        raise LightfastError(
            f"{path} has answers to paid requests that are not on record yet, and cannot be read ({error.strerror}). "
            "Make it readable for this user, or run as the user who owns it. Nothing was sent."
        ) from error


def _locked(folder: Path, stem: str) -> IO[bytes]:
    path = folder / f"{stem}-{os.getpid()}-{secrets.token_hex(4)}.jsonl"
    file: IO[bytes] = path.open("xb", buffering=0)  # kept open, and locked, as long as the process lives
    try:
        _lock(file)
        _write(file, b"\n")  # a full disk says so here, while there is still another folder to try
        _sync_folder(folder)
    except OSError:
        path.unlink(missing_ok=True)
        file.close()
        raise
    return file


def _write(file: IO[bytes], lines: bytes) -> None:
    """Appends and syncs. Unbuffered: what a full disk refuses must not come again when the file is closed."""
    rest = memoryview(lines)
    while rest:
        rest = rest[file.write(rest) :]
    os.fsync(file.fileno())


def _recorded(line: bytes, record: Callable[[Sequence[Fact]], object]) -> bool:
    """Whether the line's fact is in the ledger now. A fact is not set aside because the ledger is away.

    Raises:
        Exception: The ledger is away.
    """
    fact = _read(line)
    if fact is None:
        return False
    try:
        record([fact])
    except Exception as trouble:  # one by one: a single bad one must not hold back the others
        if is_away(trouble):
            raise
        emit("rescue_fact_refused", level="error", fact=type(fact).__name__, problem=repr(trouble)[:300])
        return False
    return True


def _keep_aside(path: Path, lines: Sequence[bytes]) -> None:
    """In a file that is not replayed; appended to, should the replay break off and begin again."""
    aside = path.with_suffix(".refused")
    with aside.open("ab") as file:
        file.write(b"".join(lines))
        file.flush()
        os.fsync(file.fileno())
    emit("rescue_lines_kept", level="error", file=str(aside), lines=len(lines))


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
    except (ValueError, LookupError, TypeError, AttributeError):  # a process that died while it wrote, or a newer one
        emit("rescue_line_unreadable", level="error", line=line[:200].decode("utf-8", "replace"))
        return None
    return fact
