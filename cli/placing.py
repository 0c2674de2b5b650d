"""Where results are written, whole or not at all, and by which addresses they call the images."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from cli.reading import Desk
from jobs.errors import BadInput

if TYPE_CHECKING:
    from jobs.ledger.values.batches import Batch
    from jobs.results import Address

#: Signed addresses cannot live longer (S3's limit, seven days).
LONGEST_PRESIGN = 7 * 86_400
CONTENT_TYPES = {
    "csv": "text/csv; charset=utf-8",
    "jsonl": "application/jsonl; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
    "html": "text/html; charset=utf-8",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is asked for, checked."""

    format: str
    output: str | None  # None: stdout
    per_image: bool = False
    columns: str | None = None
    only: frozenset[str] = frozenset()
    presign: float | None = None  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What was written, and where."""

    lines: int
    files: tuple[str, ...]


def address_of(desk: Desk, batch: Batch, presign: float | None) -> Address:
    """How the batch's objects are called: signed, behind the public address, or as the destination names them."""
    from jobs.results import plain_address, public_address  # noqa: PLC0415  beside its use

    storage = desk.settings.storage
    if presign:
        return _presigned(batch.dest, presign)
    if storage.public_url:
        return public_address(storage.public_url, batch.dest, storage.to)
    return plain_address(batch.dest)


def _presigned(dest: str, seconds: float) -> Address:
    from worker.opening import open_store  # noqa: PLC0415  large, and only for remote destinations

    if is_folder(dest):
        raise BadInput(
            f"--presign: {dest} is a folder; only a bucket can sign addresses. [storage] public_url names a server."
        )
    store = open_store(dest)
    return lambda path: store.presign(path, round(seconds))


def is_folder(dest: str) -> bool:
    """Whether the destination is on this machine."""
    return "://" not in dest or dest.startswith("file://")


def target_of(wish: Wish, name: str) -> str | None:
    """The file or address to write to; a folder gets `name` in it."""
    where = wish.output
    if where is None:
        return None
    if where.startswith("file://"):
        from urllib.parse import unquote, urlsplit  # noqa: PLC0415  rarely

        where = unquote(urlsplit(where).path)
    if where.endswith("/") or ("://" not in where and Path(where).is_dir()):
        return f"{where.rstrip('/')}/{name}"
    return where


@contextmanager
def opened(where: str | None, format: str) -> Iterator[IO[bytes]]:  # noqa: A002  the word users know
    """A file to write to that takes its place when it is whole; `where` None is stdout."""
    if where is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    folder = None if "://" in where else _folder_of(where)
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".lightfast-", suffix=".part", delete=False) as file:
        scratch = Path(file.name)
        try:
            yield file.file
            file.flush()
            os.fsync(file.fileno())
            _place(scratch, where, format)
        finally:
            scratch.unlink(missing_ok=True)


def _folder_of(where: str) -> Path:
    folder = Path(where).parent
    if not folder.is_dir():
        raise BadInput(f"-o {where}: there is no folder {folder}.")
    return folder


def _place(scratch: Path, where: str, format: str) -> None:  # noqa: A002  the word users know
    if "://" not in where:
        scratch.chmod(0o666 & ~_umask())
        scratch.replace(where)
        return
    from worker.opening import open_store  # noqa: PLC0415  large, and only for remote destinations

    dest, _, name = where.rpartition("/")
    open_store(dest).put(name, scratch, content_type=CONTENT_TYPES[format])


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
