"""Pictures in another format or smaller. Runs in processes of its own: this module imports little."""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
import threading
import warnings
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING

from worker.images.check import PIXELS

if TYPE_CHECKING:
    from PIL import Image

#: Format -> ending of its files' names, and Pillow's options.
ENDINGS = {"jpeg": "jpg", "png": "png", "webp": "webp"}
_FORMATS = {ending: name for name, ending in ENDINGS.items()}
#: What a picture becomes that is of a format which is only read.
_ELSE = "png"


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """What becomes of each picture."""

    format: str | None  # None: the one that it has
    quality: int  # of JPEG and WebP, 1 to 100
    max_side: int | None  # pixels; None: as large as they are


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """A picture as it is exported."""

    data: bytes
    ending: str
    width: int
    height: int


def convert(data: bytes, ending: str, conversion: Conversion) -> Converted | None:
    """The picture as it is asked for, the way up that it is shown; None where the bytes cannot be decoded.

    Bytes stay as they are where no format is asked for and the picture is small enough.
    """
    from PIL import Image, ImageOps  # noqa: PLC0415  slow to import, and only conversions need it

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(data)) as picture:
                if picture.width * picture.height > PIXELS:
                    return None
                most = conversion.max_side
                if conversion.format is None and (most is None or max(picture.size) <= most):
                    shown = ImageOps.exif_transpose(picture)
                    return Converted(data=data, ending=ending, width=shown.width, height=shown.height)
                kind = conversion.format or _FORMATS.get(ending, _ELSE)
                profile = picture.info.get("icc_profile") if picture.mode != "CMYK" else None
                shown = _in_colours(ImageOps.exif_transpose(picture), kind)
                if most is not None:
                    shown.thumbnail((most, most), Image.Resampling.LANCZOS)
                target = io.BytesIO()
                options = {} if kind == "png" else {"quality": conversion.quality}
                shown.save(target, kind, icc_profile=profile, **options)
        except Exception:  # noqa: BLE001  Pillow's plugins raise whatever they like at odd bytes
            return None
    return Converted(data=target.getvalue(), ending=ENDINGS[kind], width=shown.width, height=shown.height)


def _in_colours(picture: Image.Image, kind: str) -> Image.Image:
    """Of three channels, or four where something shows through; JPEG has white behind that."""
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    clear = picture.convert("RGBA")
    if kind != "jpeg":
        return clear
    from PIL import Image  # noqa: PLC0415  as above

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
