"""A folder as destination: what is at a path is whole, and stays there when the power goes."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import stat
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, TypeVar

from jobs.errors import StoreError
from worker.storage.base import NO_METADATA, OWN, PROBE, ObjectInfo, Probed, PutResult, Store

T = TypeVar("T")

#: Files being written lie here, so what a killed process leaves is found and removed.
PARTS = f"{OWN}/parts"
#: Seconds after which such a file belongs to a process that is dead.
STALE_PART = 24 * 3600.0

CODES = {
    errno.ENOSPC: "disk_full",
    errno.EDQUOT: "disk_full",
    errno.EACCES: "disk_denied",
    errno.EPERM: "disk_denied",
    errno.EROFS: "disk_denied",
    errno.ENAMETOOLONG: "bad_path",
    errno.ENOTDIR: "bad_path",
    errno.EISDIR: "bad_path",
    errno.EILSEQ: "bad_path",
}
#: File systems without hard links say one of these.
NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV})


class DiskStore(Store):
    """Writes beside, syncs, and links into place. Files carry no metadata."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self._remove_stale_parts()

    def put_new(
        self,
        path: str,
        data: bytes | Path,
        *,
        content_type: str,  # noqa: ARG002  a file has none
        metadata: Mapping[str, str] = NO_METADATA,  # noqa: ARG002  nor these
        sha256: str = "",  # noqa: ARG002  nor is it signed
    ) -> PutResult:
        """Writes a file, whole and synced, unless one is there."""
        with self._told(path):
            return self._placed(path, data, _link)

    def put(
        self,
        path: str,
        data: bytes | Path,
        *,
        content_type: str,  # noqa: ARG002  as above
        metadata: Mapping[str, str] = NO_METADATA,  # noqa: ARG002  as above
    ) -> None:
        """Writes a file, whole and synced, over whatever is there."""
        with self._told(path):
            self._placed(path, data, Path.replace)

    def read(self, path: str) -> bytes | None:
        """A file's bytes; None when there is none."""
        with self._told(path), contextlib.suppress(FileNotFoundError), _opened(self._target(path)) as file:
            return file.read()
        return None

    def look(self, path: str) -> ObjectInfo | None:
        """What a file's entry says; None when there is none."""
        with self._told(path), contextlib.suppress(FileNotFoundError):
            found = self._target(path).stat()
            if stat.S_ISREG(found.st_mode):
                return ObjectInfo(size=found.st_size, modified=found.st_mtime)
        return None

    def sha256_of(self, path: str) -> str | None:
        """The hash of a file; None when there is none."""
        with self._told(path), contextlib.suppress(FileNotFoundError), _opened(self._target(path)) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
        return None

    def objects(self, below: str = "") -> Iterator[str]:
        """The paths of all files below a folder; those that are being written have none yet."""
        start = self._target(below) if below else self._root
        with self._told(below or "."):
            for folder, folders, files in os.walk(start):
                folders.sort()
                place = Path(folder).relative_to(self._root).as_posix()
                if place != PARTS:
                    yield from (name if place == "." else f"{place}/{name}" for name in sorted(files))

    def delete(self, path: str) -> None:
        """Deletes a file, if there is one."""
        with self._told(path):
            self._target(path).unlink(missing_ok=True)

    def remove_left_parts(self) -> None:
        """Removes files that were being written by processes of this machine that are gone. Others hold theirs."""
        with contextlib.suppress(OSError):  # no such folder
            for part in (self._root / PARTS).iterdir():
                with contextlib.suppress(OSError), part.open("rb") as file:  # it is held, or in its place by now
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    part.unlink()

    def presign(self, path: str, seconds: float) -> str:  # noqa: ARG002  a file's address does not expire
        """The file's address."""
        return self.url_of(path)

    def url_of(self, path: str) -> str:
        """The file's address."""
        return self._target(path).as_uri()

    def probe(self, size: int = PROBE) -> Probed:
        """As every store's; leaves no folder behind that was not there."""
        with self._told("."):
            made = [folder for folder in (PARTS, OWN, ".") if not (self._root / folder).is_dir()]
        probed = super().probe(size)
        for folder in made:
            with contextlib.suppress(OSError):  # it is not empty
                (self._root / folder).rmdir()
        return probed

    # -- how -------------------------------------------------------------------------------------------------------

    def _target(self, path: str) -> Path:
        if not path or path.startswith("/") or "\0" in path or ".." in path.split("/"):
            raise StoreError(code="bad_path", message=f"{path!r} does not lie below the folder", retryable=False)
        return self._root / path

    def _placed(self, path: str, data: bytes | Path, place: Callable[[Path, Path], T]) -> T:
        """Written beside its place, then put there.

        The probe of another process may take an empty folder away that was just made for it: then it is made once more.
        """
        try:
            with self._part(path, data) as (part, target):
                return place(part, target)
        except FileNotFoundError:
            with self._part(path, data) as (part, target):
                return place(part, target)

    @contextlib.contextmanager
    def _part(self, path: str, data: bytes | Path) -> Iterator[tuple[Path, Path]]:
        """A synced file beside the target's place, held by a lock; the folder is synced once it is in that place."""
        target = self._target(path)
        _make_folder(target.parent)
        part = self._root / PARTS / uuid.uuid4().hex
        _make_folder(part.parent)
        try:
            with part.open("xb") as file:
                with contextlib.suppress(OSError):  # a file system without locks
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _fill(file, data)
                file.flush()
                os.fsync(file.fileno())
                yield part, target
            _sync_folder(target.parent)
        finally:
            part.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _told(self, path: str) -> Iterator[None]:
        try:
            yield
        except FileExistsError as error:  # a folder's name is taken by a file
            raise _problem(self._root / path, errno.ENOTDIR, error) from error
        except OSError as error:
            raise _problem(self._root / path, error.errno or 0, error) from error

    def _remove_stale_parts(self) -> None:
        with contextlib.suppress(OSError):  # no such folder, or not ours to tidy
            for part in (self._root / PARTS).iterdir():
                if time.time() - part.stat().st_mtime > STALE_PART:
                    part.unlink(missing_ok=True)


def _problem(path: Path, number: int, error: OSError) -> StoreError:
    code = CODES.get(number, "disk_error")
    message = f"{path}: {error.strerror or error}"
    return StoreError(code=code, message=message, retryable=code != "bad_path", denied=code == "disk_denied")


def _opened(path: Path) -> BufferedReader:
    """A folder or a pipe in a file's place is no file; to open the latter would wait for ever."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise FileNotFoundError(errno.ENOENT, "no file", str(path))
    return path.open("rb")


def _fill(file: BinaryIO, data: bytes | Path) -> None:
    if isinstance(data, bytes):
        file.write(data)
        return
    with data.open("rb") as source:
        shutil.copyfileobj(source, file, 1024 * 1024)


def _link(part: Path, target: Path) -> PutResult:
    try:
        target.hardlink_to(part)
    except FileExistsError:
        return PutResult.EXISTS
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        return _rename(part, target)
    return PutResult.STORED


def _rename(part: Path, target: Path) -> PutResult:
    """Without hard links nothing is atomic and refuses to replace; two writers of one path are then told by hash."""
    if target.exists():
        return PutResult.EXISTS
    part.replace(target)
    return PutResult.STORED


def _make_folder(folder: Path) -> None:
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
