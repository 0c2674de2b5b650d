"""Pictures decoded with Pillow, within our limit of pixels."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from worker.images.check import PIXELS

if TYPE_CHECKING:
    from PIL import Image


@contextmanager
def opened(data: bytes) -> Iterator[Image.Image]:
    """The picture, which is decoded as it is used.

    Raises:
        Exception: They are no whole picture, or one of too many pixels. Pillow's plugins raise whatever they like.
    """
    from PIL import Image  # noqa: PLC0415  slow to import, and most commands decode nothing

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(io.BytesIO(data)) as picture:
            if picture.width * picture.height > PIXELS:
                raise ValueError(f"more than {PIXELS:,} pixels")
            yield picture


def in_eight_bits(picture: Image.Image) -> Image.Image:
    """Grey of 16 bits in 8, where Pillow would make all but the darkest white; any other picture as it is."""
    if not picture.mode.startswith("I"):
        return picture
    return picture.convert("I").point(lambda level: level * (1 / 256)).convert("L")
