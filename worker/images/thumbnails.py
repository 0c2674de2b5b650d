"""Small copies of stored images, made once and kept, so that a page of thousands of pictures opens at once."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from jobs.errors import LightfastError, StoreError
from worker.images.decoding import in_eight_bits, opened

#: The longer side of a small copy, in pixels: twice what a page shows, for screens that are as fine.
SIDE = 512
#: Of WebP, from 0 to 100.
_QUALITY = 78

#: What makes a missing copy: the name of it, and how the image's bytes are read (None: there are none).
Missing = tuple[str, Callable[[], bytes | None]]


class Thumbnails:
    """A folder of small copies. Each is named by the hash of its image, so none is ever out of date."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @staticmethod
    def name(sha256: str) -> str:
        """The file's name in the folder."""
        return f"{sha256[:40]}.webp"

    def missing(self, sha256: str) -> bool:
        """Whether the copy has still to be made."""
        return not (self._folder / self.name(sha256)).exists()

    def make(self, wanted: Iterable[Missing], told: Callable[[int], None] = lambda _: None) -> int:
        """Makes copies on all cores and returns how many it could not make: gone or unreadable images.

        `told` hears how many are through. Raises `LightfastError` where the folder cannot be written.
        """
        pool = ThreadPoolExecutor(thread_name_prefix="thumbnail")  # Pillow lets go of the interpreter's lock
        try:
            jobs = [pool.submit(self._make_one, *each) for each in wanted]
            failed = 0
            for through, job in enumerate(as_completed(jobs), 1):
                failed += not job.result()
                told(through)
            return failed
        finally:
            pool.shutdown(cancel_futures=True)

    def _make_one(self, name: str, read: Callable[[], bytes | None]) -> bool:
        try:
            data = read()
        except StoreError:
            return False
        copy = small(data) if data is not None else None
        if copy is None:
            return False
        scratch = self._folder / f".{name}-{os.getpid()}.part"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            scratch.write_bytes(copy)
            scratch.replace(self._folder / name)
        except OSError as error:
            with contextlib.suppress(OSError):
                scratch.unlink(missing_ok=True)
            raise LightfastError(f"{self._folder}: small pictures cannot be written: {error.strerror}.") from error
        return True


def small(data: bytes) -> bytes | None:
    """A WebP of at most SIDE pixels a side, the way up that it is shown; None where the bytes are no picture."""
    from PIL import ImageOps  # noqa: PLC0415  slow to import, and only a sheet needs it

    try:
        with opened(data) as picture:
            picture.draft("RGB", (SIDE, SIDE))
            shown = in_eight_bits(ImageOps.exif_transpose(picture))
            shown.thumbnail((SIDE, SIDE), reducing_gap=2.0)
            shown = shown.convert("RGBA" if shown.has_transparency_data else "RGB")
            target = io.BytesIO()
            shown.save(target, "WEBP", quality=_QUALITY)
    except Exception:  # noqa: BLE001  see `opened`; such a picture is shown itself
        return None
    return target.getvalue()
