"""Reference images for demos and tests, at /cdn/references/NAME.jpg: drawn from the name, any name will do."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Final
from urllib.parse import unquote, urlsplit

from sandbox.images.pictures import Picture

PLACE: Final = "/cdn/references/"
FORMATS: Final = {".jpg": "jpeg", ".jpeg": "jpeg", ".png": "png", ".webp": "webp"}
SIZES: Final = {"tall": (768, 1024), "square": (1024, 1024)}  # when the name has the word
SIZE: Final = (1024, 768)


def reference(path: str) -> Picture | None:
    """The picture at a path below /cdn/references/; None when its ending is none of ours."""
    name = PurePosixPath(unquote(path))
    kind = FORMATS.get(name.suffix.lower())
    if kind is None:
        return None
    words = name.stem.replace("-", " ").replace("_", " ")
    size = size_of_reference(path)
    return Picture(prompt=words, facts=f"reference · {size[0]}x{size[1]} · sandbox", pixels=size, format=kind)


def size_of_reference(link: str) -> tuple[int, int]:
    """The pixels of one of our references; a square for all others, which nobody fetches."""
    path = urlsplit(link).path
    if link.startswith("data:") or PLACE not in f"/{path}":
        return (1024, 1024)
    return next((size for word, size in SIZES.items() if word in path), SIZE)
