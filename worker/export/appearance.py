"""What a picture looks like, in a few bytes. Runs in processes of its own: this module imports little.

All is whole numbers: the same picture has the same signature on every machine, with the same release of Pillow.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image

#: Pixels of a side of the small picture that is looked at.
SIDE = 32
#: Levels of 255 that the small picture of a blank one differs by at most, in each colour.
BLANK_LEVELS = 6
#: Fields of a side whose mean colour is taken.
_FIELDS = 3
#: Frequencies of a side in the coarse hash, and in the fine one.
_COARSE, _FINE = 8, 16
_SCALE = 4_096  # of cosines, to be whole numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Appearance:
    """What a picture looks like."""

    signature: bytes  # see `jobs.export.near_duplicates`
    is_blank: bool  # of one colour


def appearance_of(picture: Image.Image) -> Appearance:
    """How a picture in RGB looks."""
    import numpy as np  # noqa: PLC0415  slow to import, and only this needs it
    from PIL import Image  # noqa: PLC0415  the same

    small = picture.resize((SIDE, SIDE), Image.Resampling.BOX, reducing_gap=2.0)
    colours = small.resize((_FIELDS, _FIELDS), Image.Resampling.BOX)
    shades = np.asarray(small.convert("L"), dtype=np.int64)
    waves = _cosines() @ shades @ _cosines().T
    parts = [_bits(waves[:side, :side]) for side in (_COARSE, _FINE)]
    levels = np.asarray(small, dtype=np.int64).reshape(-1, 3)
    is_blank = bool((levels.max(axis=0) - levels.min(axis=0)).max() <= BLANK_LEVELS)
    return Appearance(signature=b"".join([*parts, colours.tobytes()]), is_blank=is_blank)


def _bits(waves: Any) -> bytes:
    """Of each frequency whether there is more of it than of most; the mean shade is none."""
    import numpy as np  # noqa: PLC0415  as above

    values = waves.ravel()
    return np.packbits(values > np.median(values[1:])).tobytes()


@functools.cache
def _cosines() -> Any:
    import numpy as np  # noqa: PLC0415  as above

    return np.array(
        [
            [round(_SCALE * math.cos(math.pi * (2 * at + 1) * wave / (2 * SIDE))) for at in range(SIDE)]
            for wave in range(_FINE)
        ],
        dtype=np.int64,
    )
