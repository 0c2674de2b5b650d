"""How a picture is turned before it is shown, as its Exif data say.

One rule for pixels: width and height are those that are shown. Browsers and `ImageOps.exif_transpose` turn a picture by
its Exif orientation; in AVIF and HEIC, a box of the format itself says it.
"""

from __future__ import annotations

import struct

from worker.images.image_bytes import Size

ORIENTATION = 0x0112
SHORT = 3  # the tag's type
#: Those that lie on their side: width and height change places (Exif 2.3, 4.6.4).
ON_ITS_SIDE = frozenset({5, 6, 7, 8})
EXIF = b"Exif\0\0"
#: Bytes of Exif data that are read; a JPEG can hold no more.
EXIF_AT_MOST = 65_536
#: Tags of a directory that are looked at: a camera writes a few dozen.
MOST_TAGS = 1_000


def as_shown(size: Size, exif: bytes) -> Size:
    """A picture's size after it was turned. `exif`: a TIFF header and what follows; unreadable data turn nothing."""
    return size[::-1] if _orientation(exif.removeprefix(EXIF)) in ON_ITS_SIDE else size


def _orientation(tiff: bytes) -> int:
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return 1
    try:
        (directory,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, directory)
        for number in range(min(count, MOST_TAGS)):
            tag, kind, _, value = struct.unpack_from(f"{order}HHIH", tiff, directory + 2 + 12 * number)
            if tag == ORIENTATION and kind == SHORT:
                return int(value)
    except struct.error:
        pass
    return 1
