"""Pictures of stored images: as they are, and small copies of them, read from their destination through us.

Whoever looks needs no right to the bucket, and what is there is shown only as far as it is a picture: bytes that are
not those on record are checked anew, and shown as what they are, or not at all.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from anyio import CapacityLimiter
from anyio.to_thread import run_sync

from jobs.errors import LightfastError, StoreError
from jobs.ledger import Ledger
from jobs.ledger.reports.values import StoredImage
from worker.images.check import BadImage, check
from worker.images.thumbnails import Thumbnails
from worker.storage.base import Store
from worker.storage.opening import open_store

#: Bytes of a picture that is shown; a larger one stays in its bucket. With the number of those that are read at once it
#: bounds the memory that they take.
LARGEST = 64 * 1024 * 1024
READERS = 4
#: Bytes that all small copies may take, and how many are made between two looks at that.
MOST_KEPT, LOOK_AFTER = 512 * 1024 * 1024, 200
#: Destinations that are held open.
MOST_OPEN = 16


class NoPictureError(Exception):
    """It cannot be shown; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownPicture:
    """What is sent."""

    data: bytes
    content_type: str


class StoredPictures:
    """Belongs to one event loop; whoever comes when `READERS` are reading waits for his turn there."""

    def __init__(self, ledger: Callable[[], Ledger]) -> None:
        self._ledger = ledger
        self._stores: OrderedDict[str, Store] = OrderedDict()
        self._lock = Lock()
        self._readers: CapacityLimiter | None = None
        self._being_made: dict[str, Lock] = {}
        self._made = 0

    async def original(self, dest: str, image: StoredImage) -> ShownPicture:
        """The image as it is stored.

        Raises:
            NoPictureError: It cannot be shown.
        """
        return await self._in_turn(self._original, dest, image)

    async def small(self, dest: str, image: StoredImage) -> ShownPicture:
        """A small copy, made when it is first asked for, and kept.

        Raises:
            NoPictureError: There is none, and none can be made.
        """
        return await self._in_turn(self._small, dest, image)

    async def _in_turn(
        self, look: Callable[[str, StoredImage], ShownPicture], dest: str, image: StoredImage
    ) -> ShownPicture:
        self._readers = self._readers or CapacityLimiter(READERS)
        return await run_sync(look, dest, image, limiter=self._readers, abandon_on_cancel=True)

    # -- in threads ------------------------------------------------------------------------------------------------

    def _original(self, dest: str, image: StoredImage) -> ShownPicture:
        data = self._read(dest, image)
        if image.sha256 and image.format and hashlib.sha256(data).hexdigest() == image.sha256:
            return ShownPicture(data=data, content_type=f"image/{image.format}")
        try:
            found = check(data)
        except BadImage as bad:
            raise NoPictureError("what is stored there now is no picture") from bad
        return ShownPicture(data=data, content_type=found.content_type)

    def _small(self, dest: str, image: StoredImage) -> ShownPicture:
        if not image.sha256:  # by which it is kept
            raise NoPictureError("its bytes are not on record")
        folder, name = self._folder(), Thumbnails.name(image.sha256)
        with self._alone(name):
            with contextlib.suppress(OSError):
                return ShownPicture(data=(folder / name).read_bytes(), content_type="image/webp")
            self._make(folder, name, dest, image)
        try:
            return ShownPicture(data=(folder / name).read_bytes(), content_type="image/webp")
        except OSError as gone:
            raise NoPictureError("no small copy could be made of it") from gone

    def _make(self, folder: Path, name: str, dest: str, image: StoredImage) -> None:
        """Reads the picture once, however many ask for its copy."""
        refused: list[NoPictureError] = []

        def read() -> bytes | None:
            try:
                return self._read(dest, image)
            except NoPictureError as why:
                refused.append(why)
                return None

        try:
            Thumbnails(folder).make([(name, read)])
        except LightfastError as unwritable:
            raise NoPictureError(str(unwritable)) from unwritable
        if refused:
            raise refused[0]
        if self._made % LOOK_AFTER == 0:
            _forget_oldest(folder)
        self._made += 1

    def _read(self, dest: str, image: StoredImage) -> bytes:
        path = image.path or ""
        try:
            store = self._store(image.dest or dest)
            size = image.bytes
            if size is None and (there := store.look(path)) is not None:
                size = there.size
            if size is not None and size > LARGEST:
                raise NoPictureError("it is too large to be shown here")
            data = store.read(path)
        except StoreError as refused:
            raise NoPictureError(f"the destination does not give it ({refused.code})") from refused
        if data is None:
            raise NoPictureError("it is not at its destination any more")
        return data

    def _store(self, dest: str) -> Store:
        with self._lock:
            if dest in self._stores:
                self._stores.move_to_end(dest)
                return self._stores[dest]
        store = open_store(dest)
        with self._lock:
            self._stores[dest] = store
            while len(self._stores) > MOST_OPEN:
                self._stores.popitem(last=False)
        return store

    def _folder(self) -> Path:
        """Beside a SQLite ledger; of a cluster in this machine's folder for what may be lost."""
        ledger = self._ledger()
        if ledger.path is not None:
            return ledger.path.with_name(f"{ledger.path.name}.thumbnails")
        return Path(tempfile.gettempdir()) / f"lightfast-thumbnails-{os.getuid()}" / ledger.ledger_id

    @contextlib.contextmanager
    def _alone(self, name: str) -> Iterator[None]:
        """One at a time for each copy: the others find what the first has made."""
        with self._lock:
            lock = self._being_made.setdefault(name, Lock())
        with lock:
            try:
                yield
            finally:
                with self._lock:
                    self._being_made.pop(name, None)


def _forget_oldest(folder: Path) -> None:
    """Keeps the newest copies that fit into `MOST_KEPT`."""
    with contextlib.suppress(OSError):  # another process does the same
        found = sorted(((each.stat(), each) for each in folder.iterdir()), key=lambda pair: -pair[0].st_mtime)
        room = MOST_KEPT
        for status, path in found:
            room -= status.st_size
            if room < 0:
                path.unlink(missing_ok=True)
