"""Writes results, whole or not at all, and decides which addresses of images they contain."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol, cast

from cli.flow.session import LedgerSession
from jobs.errors import BadInput, LightfastError, StoreError
from jobs.formatting import plain
from jobs.whole_text import why_not_whole
from worker.registration.addresses import split_address
from worker.registration.destination import is_folder

if TYPE_CHECKING:
    from jobs.ledger.batches.values import Batch
    from jobs.results.rows import Address, Choice

#: Signed addresses cannot live longer (S3's limit, seven days).
LONGEST_PRESIGN = 7 * 86_400
#: Where it is remembered what was written: in a hidden folder beside the files, and in an object's metadata.
OWN, WRITTEN, MARK = ".lightfast", "written", "lightfast-written"
CONTENT_TYPES = {
    "csv": "text/csv; charset=utf-8",
    "jsonl": "application/jsonl; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputOptions:
    """What is asked for, checked."""

    format: str
    output: str | None  # None: stdout
    per_image: bool = False
    columns: str | None = None
    lines: Choice | None = None  # None: all
    presign: float | None = None  # seconds
    overwrite: bool = False  # a file that Lightfast wrote
    thumbnails: bool | None = None  # of the contact sheet; None: where the images are on this machine
    progress: bool = False  # shown while it takes long
    excel: bool = False  # a CSV that Excel opens by a double click
    delimiter: str | None = None  # of a CSV; None: a comma, and for Excel the manifest's


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What was written, and where."""

    lines: int
    files: tuple[str, ...]
    leads_here: bool = False  # it has addresses that only this machine can open


def address_of(session: LedgerSession, batch: Batch, presign: float | None) -> Address:
    """Addresses of the batch's objects: signed, below the public URL, or as the destination names them."""
    from jobs.results.rows import plain_address, public_address

    storage = session.settings.storage
    if presign:
        return presigned(batch.dest, presign)
    if storage.public_url:
        return public_address(storage.public_url, batch.dest, storage.to)
    return plain_address(batch.dest)


def presigned(dest: str, seconds: float) -> Address:
    """Addresses that anybody can open for `seconds`, seven days at most."""
    from worker.storage.opening import open_store

    if is_folder(dest):
        raise BadInput(
            f"--presign: {dest} is a folder; only a bucket can sign addresses. [storage] public_url names a server."
        )
    stores = {dest: open_store(dest)}

    def address(path: str, elsewhere: str = dest) -> str:
        if elsewhere not in stores:
            stores[elsewhere] = open_store(elsewhere)
        return stores[elsewhere].presign(path, round(seconds))

    return address


def target_of(wish: OutputOptions, name: str) -> str | None:
    """The file or address to write to; a folder gets `name` in it."""
    where = wish.output
    if where is None:
        return None
    if where.startswith("file://"):
        from urllib.parse import unquote

        where = unquote(split_address(where, "--output").path)
        if why := why_not_whole(where):
            raise BadInput(f"--output: expected a path, but {why}")
    if where.endswith("/") or ("://" not in where and Path(where).is_dir()):
        return f"{where.rstrip('/')}/{name}"
    return where


@contextmanager
def opened(where: str | None, format: str, *, overwrite: bool = False) -> Iterator[IO[bytes]]:  # noqa: A002  as users say
    """A file to write to that takes its place when it is whole; `where` None is stdout.

    `overwrite`: over a file that Lightfast wrote, and that nobody has changed since. Never over any other.
    """
    if where is None:
        shown = sys.stdout.isatty() and format != "parquet"
        yield cast("IO[bytes]", _Shown(sys.stdout.buffer)) if shown else sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    place: OutputPlace = _Object(where, CONTENT_TYPES[format]) if "://" in where else _File(where)
    if place.is_a_pipe:
        with Path(where).open("ab") as file:  # what a shell has opened may be a file that it adds to
            yield file
        return
    if place.is_taken():
        _demand_ours(place, where, overwrite=overwrite)
    try:
        made = tempfile.NamedTemporaryFile(  # noqa: SIM115  closed below
            dir=place.folder, prefix=".lightfast-", suffix=".part", delete=False
        )
    except OSError as error:
        raise _unwritable(place.folder, where, error) from error
    with made as file:
        scratch = Path(file.name)
        try:
            yield file.file
            file.flush()
            os.fsync(file.fileno())
            if not place.put_new(scratch):
                _demand_ours(place, where, overwrite=overwrite)
                place.replace(scratch)
        finally:
            scratch.unlink(missing_ok=True)


def _unwritable(folder: Path | None, where: str, error: OSError) -> LightfastError:
    place = folder or "for temporary files (TMPDIR)"
    return LightfastError(
        f"-o {where}: the folder {place} cannot be written ({error.strerror or error}). Nothing was written, and "
        "nothing is lost: name a file in another folder."
    )


class _Shown:
    """Lines on their way to a terminal, which must not obey what is in them; a program gets them as they are."""

    def __init__(self, terminal: IO[bytes]) -> None:
        self._terminal = terminal

    def write(self, lines: bytes) -> int:
        self._terminal.write(plain(lines.decode("utf-8", "replace")).encode())
        return len(lines)


# -- nothing is written over but what is ours ------------------------------------------------------------------------


class OutputPlace(Protocol):
    """Where a file goes. It remembers beside it what was written there, by its hash."""

    @property
    def is_a_pipe(self) -> bool:
        """A pipe, a device, or what the shell has opened for us: it is written into, and nothing there is lost."""

    @property
    def folder(self) -> Path | None:
        """Where the scratch file has to lie; None: anywhere."""

    def is_taken(self) -> bool:
        """Whether something is there."""

    def is_ours(self) -> bool:
        """Whether Lightfast wrote it, and nobody changed it since."""

    def put_new(self, scratch: Path) -> bool:
        """Puts the file there unless something is; False: something is."""

    def replace(self, scratch: Path) -> None:
        """Puts the file there, over what is there."""


def _demand_ours(place: OutputPlace, where: str, *, overwrite: bool) -> None:
    """Ends where something is that may not be written over."""
    if not place.is_ours():
        raise BadInput(
            f"-o {where}: there is a file already that Lightfast did not write, or that was changed since. "
            "It is never written over: name another file."
        )
    if not overwrite:
        raise BadInput(f"-o {where}: Lightfast wrote that file before. --overwrite writes it anew.")


class _File:
    """A file of this machine. A link is followed, so that it stays one."""

    def __init__(self, where: str) -> None:
        self.is_a_pipe = is_opened_for_us(where)
        self._path = Path(os.path.realpath(where))
        self._record = self._path.parent / OWN / WRITTEN / f"{self._path.name}.sha256"
        self.folder = self._path.parent
        if not self.folder.is_dir():
            raise BadInput(f"-o {where}: there is no folder {Path(where).parent}.")

    def is_taken(self) -> bool:
        return os.path.lexists(self._path)

    def is_ours(self) -> bool:
        try:
            return self._path.is_file() and self._record.read_text(encoding="ascii").strip() == _sha256(self._path)
        except (OSError, UnicodeDecodeError):
            return False

    def put_new(self, scratch: Path) -> bool:
        scratch.chmod(0o666 & ~_umask())
        sha256 = _sha256(scratch)
        try:
            self._path.hardlink_to(scratch)
        except FileExistsError:
            return False
        except OSError:  # no hard links there
            if not self._reserve():
                return False
            scratch.replace(self._path)
        self._remember(sha256)
        return True

    def _reserve(self) -> bool:
        """Takes the name, unless somebody else has: only he who made a file may write over it."""
        try:
            self._path.touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def replace(self, scratch: Path) -> None:
        sha256 = _sha256(scratch)
        scratch.replace(self._path)
        self._remember(sha256)

    def _remember(self, sha256: str) -> None:
        """What cannot be remembered is not written over later; the file itself is there."""
        with contextlib.suppress(OSError):
            self._record.parent.mkdir(parents=True, exist_ok=True)
            self._record.write_text(sha256, encoding="ascii")


class _Object:
    """An object in a bucket; its metadata remember."""

    is_a_pipe = False
    folder = None

    def __init__(self, where: str, content_type: str) -> None:
        from worker.storage.opening import open_store

        dest, _, self._name = where.rpartition("/")
        self._store, self._type = open_store(dest), content_type

    def is_taken(self) -> bool:
        """Without the right to list, S3 refuses a look at what is not there: the conditional put tells then."""
        try:
            return self._store.look(self._name) is not None
        except StoreError as error:
            if error.denied:
                return False
            raise

    def is_ours(self) -> bool:
        """Another program that writes an object gives it metadata of its own, but one that copies it keeps ours."""
        found = self._store.look(self._name)
        said = found.metadata.get(MARK) if found else None
        return said is not None and said == self._store.sha256_of(self._name)

    def put_new(self, scratch: Path) -> bool:
        marked = {MARK: _sha256(scratch)}
        done = self._store.put_new(self._name, scratch, content_type=self._type, metadata=marked)
        return done.value == "stored" or self._store.sha256_of(self._name) == marked[MARK]  # repeated by the library

    def replace(self, scratch: Path) -> None:
        marked = {MARK: _sha256(scratch)}
        self._store.put(self._name, scratch, content_type=self._type, metadata=marked)


#: Names of what this process has open: `-o >(gzip > x)` gives one, and none of them is a file of that name.
_OPENED = re.compile(r"/dev/(stdout|stderr|fd/\d+)|/proc/(self|\d+)/fd/\d+")


def is_opened_for_us(where: str) -> bool:
    """Whether it is a pipe, a device, or what the shell has opened: no file that others could lie beside."""
    path = Path(where)
    if _OPENED.fullmatch(where):
        return True
    return path.exists() and not path.is_file() and not path.is_dir()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
