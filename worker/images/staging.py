"""Bytes on their way: bounded temporary bodies of downloads, and durable files of results that came without a link."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from worker.images.base64_text import decoded

#: How the names of downloads' files begin.
BODY = "lightfast-body-"
#: Bytes that are left free on the disk: the ledger may be on it.
SPARE = 1024 * 1024 * 1024
#: Seconds for which a file may not be locked yet by who has just made it.
JUST_MADE = 60.0
#: Bytes of one download that are held in memory; above that they go to a temporary file.
MEMORY = 4 * 1024 * 1024


@dataclass(slots=True)
class Body:
    """Takes a download: in memory while it is small, on disk above.

    The file is held by a lock, so that what a killed process left is told from what is in use. `folder`: None means the
    usual one for temporary files (TMPDIR).
    """

    folder: Path | None = None
    on_disk: Callable[[], None] = lambda: None  # called when it leaves memory
    size: int = 0
    _memory: io.BytesIO = field(default_factory=io.BytesIO)
    _file: BinaryIO | None = None
    _path: Path | None = None

    def write(self, data: bytes, /) -> None:
        """Takes the next bytes."""
        if self._file is None and self._memory.tell() + len(data) > MEMORY:
            self._move_to_disk()
        self.size += len(data)
        (self._file or self._memory).write(data)

    def clear(self) -> None:
        """Forgets what came."""
        self.close()
        self._memory, self._file, self._path, self.size = io.BytesIO(), None, None, 0

    def content(self) -> bytes | Path:
        """What came: bytes, or the file that holds them."""
        if self._file is None or self._path is None:
            return self._memory.getvalue()
        self._file.flush()
        return self._path

    def close(self) -> None:
        """Removes the temporary file."""
        if self._file is not None and self._path is not None:
            self._file.close()
            self._path.unlink(missing_ok=True)

    def _move_to_disk(self) -> None:
        number, name = tempfile.mkstemp(prefix=BODY, dir=self.folder)
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._path = Path(name)
        self._file = os.fdopen(number, "wb")
        self._file.write(self._memory.getbuffer())
        self._memory = io.BytesIO()
        self.on_disk()


def remove_stale(folder: Path | None = None, prefix: str = BODY) -> int:
    """Removes temporary files that dead processes left, of downloads if nothing else is said; returns how many.

    Who has one holds its lock.
    """
    removed, young = 0, time.time() - JUST_MADE
    for path in Path(folder or tempfile.gettempdir()).glob(f"{prefix}*"):
        with contextlib.suppress(OSError), path.open("rb") as file:  # locked: somebody's; another user's; gone
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.stat().st_mtime < young:
                path.unlink()
                removed += 1
    return removed


@dataclass(frozen=True, slots=True)
class Staging:
    """Files that hold what cannot be fetched again. A file's name begins with the host that has it."""

    folder: Path

    def keep(self, attempt_id: int, index: int, b64: str) -> str:
        """Decodes, writes, and returns the file's full name once it is on disk."""
        name = f"{_host()}--{attempt_id}-{index}.image"
        content = decoded(b64)
        try:
            return _write(self.folder, name, content)
        except OSError:  # the usual folder is full or gone; what was paid for goes where there is room
            return _write(Path(tempfile.gettempdir()) / "lightfast-spool", name, content)

    def save(self, image_id: int, content: bytes | Path) -> str | None:
        """Keeps what its destination does not take now; None where the disk has no room to spare."""
        return self._save(f"image-{image_id}", content)

    def save_result(self, attempt_id: int, index: int, content: bytes | Path) -> str | None:
        """The same of an image that the ledger does not know yet."""
        return self._save(f"{attempt_id}-{index}", content)

    def _save(self, name: str, content: bytes | Path) -> str | None:
        size = len(content) if isinstance(content, bytes) else content.stat().st_size
        self.folder.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(self.folder).free < size + SPARE:
            return None
        data = content if isinstance(content, bytes) else content.read_bytes()
        return _write(self.folder, f"{_host()}--{name}.image", data)

    def find(self, name: str) -> Path | None:
        """The file where it was kept; where the ledger's folder was moved since, in the folder as it is now."""
        return next((path for path in (Path(name), self.folder / Path(name).name) if path.exists()), None)

    def is_elsewhere(self, name: str) -> bool:
        """Whether another host has the file."""
        return self.find(name) is None and not Path(name).name.startswith(f"{_host()}--")

    def drop(self, name: str) -> None:
        """Removes a file whose image is stored."""
        if found := self.find(name):
            found.unlink(missing_ok=True)


def _host() -> str:
    return socket.gethostname().replace("/", "-")


def _write(folder: Path, name: str, content: bytes) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    path = (folder / name).absolute()
    draft = path.with_suffix(".draft")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    _sync(folder)
    return str(path)


def _sync(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
