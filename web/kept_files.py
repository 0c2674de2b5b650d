"""Where files that programs have sent, and that batches have written for them, are kept: a folder or a bucket."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from jobs.errors import LightfastError
from jobs.ledger import Ledger
from jobs.ledger.openai.values import RemoteFile
from jobs.settings.model import Settings
from worker.registration.destination import is_folder
from worker.storage.base import OWN, Store
from worker.storage.opening import open_store

#: The folder's name beside an SQLite ledger.
FOLDER = "lightfast-files"
_JSONL = "application/jsonl"


class KeptFiles:
    """Reads and writes them. Blocks; from any thread."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._store: Store | None = None

    def place_of(self, ledger: Ledger) -> str:
        """The folder or bucket.

        Raises:
            LightfastError: None is named, and the ledger is in no folder.
        """
        storage = self._settings.storage
        if storage.files:
            return storage.files
        if ledger.path is not None:
            return str(ledger.path.parent / FOLDER)
        if storage.to and not is_folder(storage.to):
            return f"{storage.to.rstrip('/')}/{OWN}/files"
        raise LightfastError("files of programs have no place: name a bucket in [storage] files")

    def put(self, ledger: Ledger, place: str, content: Path | bytes) -> None:
        """Writes an object, over one that a process wrote which did not end."""
        self._opened(ledger).put(place, content, content_type=_JSONL)

    def read(self, ledger: Ledger, place: str) -> bytes | None:
        """An object's bytes; None: it is gone."""
        return self._opened(ledger).read(place)

    @contextlib.contextmanager
    def local(self, ledger: Ledger, file: RemoteFile) -> Iterator[Path]:
        """A file of one object as a path on this machine.

        Raises:
            FileNotFoundError: It is gone.
        """
        where = self.place_of(ledger)
        if is_folder(where):
            path = Path(where.removeprefix("file://")) / file.place
            if not path.is_file():
                raise FileNotFoundError(file.place)
            yield path
            return
        with tempfile.NamedTemporaryFile(prefix="lightfast-", suffix=".jsonl") as made:
            self._fetch(ledger, where, file, made)
            made.flush()
            yield Path(made.name)

    def _fetch(self, ledger: Ledger, where: str, file: RemoteFile, into: tempfile._TemporaryFileWrapper[bytes]) -> None:
        if where.startswith("s3://"):
            from worker.storage.s3 import download  # noqa: PLC0415  its library takes 0.2 s to load

            bucket, _, prefix = where.removeprefix("s3://").partition("/")
            if download(bucket, f"{prefix.strip('/')}/{file.place}".lstrip("/"), into) is None:
                raise FileNotFoundError(file.place)
            return
        content = self.read(ledger, file.place)
        if content is None:
            raise FileNotFoundError(file.place)
        into.write(content)

    def remove(self, ledger: Ledger, file: RemoteFile) -> None:
        """Deletes the bytes of a file that is not on record any more."""
        store = self._opened(ledger)
        for place in places_of(file):
            store.delete(place)

    def _opened(self, ledger: Ledger) -> Store:
        if self._store is None:
            self._store = open_store(self.place_of(ledger))
        return self._store


def places_of(file: RemoteFile) -> list[str]:
    """The objects of which a file consists, in order."""
    return [part_of(file.place, number) for number in range(file.parts)] if file.parts else [file.place]


def part_of(place: str, number: int) -> str:
    """One of the objects of a file that has several."""
    return f"{place}/{number:06}.jsonl"
