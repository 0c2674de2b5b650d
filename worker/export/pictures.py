"""Pictures looked at, and made anew. Runs in processes of its own: this module imports little."""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
import threading
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING

from worker.export.appearance import SIDE, Appearance, appearance_of
from worker.images.decoding import in_eight_bits, opened

if TYPE_CHECKING:
    from PIL import Image

#: Format -> ending of its files' names, and Pillow's options.
ENDINGS = {"jpeg": "jpg", "png": "png", "webp": "webp"}
_FORMATS = {ending: name for name, ending in ENDINGS.items()}
#: What a picture becomes that is of a format which is only read.
_ELSE = "png"
#: Pixels of a side that are enough to look at.
_ROUGH = 4 * SIDE


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """What becomes of each picture."""

    format: str | None  # None: the one that it has
    quality: int  # of JPEG and WebP, 1 to 100
    max_side: int | None  # pixels; None: as large as they are
    looks: bool = False  # they are looked at, too


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """A picture as it is exported."""

    data: bytes
    ending: str
    width: int
    height: int
    look: Appearance | None = None  # where it was asked for


def convert(data: bytes, ending: str, conversion: Conversion) -> Converted | None:
    """The picture as it is asked for, the way up that it is shown; None where the bytes cannot be decoded.

    Bytes stay as they are where no format is asked for and the picture is small enough.
    """
    from PIL import Image, ImageOps  # noqa: PLC0415  slow to import, and only looks and conversions need it

    try:
        with opened(data) as picture:
            most = conversion.max_side
            if conversion.format is None and (most is None or max(picture.size) <= most):
                shown = ImageOps.exif_transpose(picture)
                seen = appearance_of(_in_colours(shown, "jpeg")) if conversion.looks else None
                return Converted(data=data, ending=ending, width=shown.width, height=shown.height, look=seen)
            kind = conversion.format or _FORMATS.get(ending, _ELSE)
            profile = picture.info.get("icc_profile") if picture.mode != "CMYK" else None
            shown = _in_colours(ImageOps.exif_transpose(picture), kind)
            if most is not None:
                shown.thumbnail((most, most), Image.Resampling.LANCZOS)
            target = io.BytesIO()
            options = {} if kind == "png" else {"quality": conversion.quality}
            shown.save(target, kind, icc_profile=profile, **options)
            seen = appearance_of(_in_colours(shown, "jpeg")) if conversion.looks else None
    except Exception:  # noqa: BLE001  see `opened`
        return None
    size = {"width": shown.width, "height": shown.height}
    return Converted(data=target.getvalue(), ending=ENDINGS[kind], **size, look=seen)


def look(data: bytes) -> Appearance | None:
    """How a picture looks, the way up that it is shown; None where the bytes cannot be decoded.

    A large JPEG is decoded at an eighth of its size, in a fraction of the time.
    """
    from PIL import ImageOps  # noqa: PLC0415  as above

    try:
        with opened(data) as picture:
            picture.draft("RGB", (_ROUGH, _ROUGH))
            ImageOps.exif_transpose(picture, in_place=True)
            return appearance_of(_in_colours(picture, "jpeg"))
    except Exception:  # noqa: BLE001  as above
        return None


def _in_colours(picture: Image.Image, kind: str) -> Image.Image:
    """Of three channels, or four where something shows through; JPEG has white behind that."""
    from PIL import Image  # noqa: PLC0415  as above

    picture = in_eight_bits(picture)
    if not picture.has_transparency_data:
        return picture if picture.mode == "RGB" else picture.convert("RGB")
    clear = picture.convert("RGBA")
    if kind != "jpeg":
        return clear
    white = Image.new("RGBA", clear.size, "white")
    return Image.alpha_composite(white, clear).convert("RGB")


def process_pool() -> Executor:
    """Processes for pictures: one for each core. They end with this process, however it ends."""
    return ProcessPoolExecutor(
        os.cpu_count(), mp_context=multiprocessing.get_context("spawn"), initializer=_end_with_the_parent
    )


def _end_with_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's matter
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_exit_after, args=(parent,), daemon=True).start()


def _exit_after(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)
