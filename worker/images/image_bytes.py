"""What the walkers of image formats have in common: the bytes, a size, and why they are no whole image."""

from __future__ import annotations

import mmap
from typing import TypeAlias

Data: TypeAlias = bytes | mmap.mmap
Size: TypeAlias = tuple[int, int]  # width, height in pixels


class BadImage(Exception):
    """Not a whole image: `truncated`, `corrupt`, `not_an_image`, or `too_many_pixels`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
