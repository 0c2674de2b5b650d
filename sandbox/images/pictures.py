"""Images drawn from a prompt: the same task, index and pixels are always the same bytes.

A picture is drawn in 256 shades, which a palette of four colours turns into a print; so a 4k image costs little.
"""

from __future__ import annotations

import hashlib
import io
import math
import random
import struct
import textwrap
import zlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from threading import Lock
from typing import Final

from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont

#: The last four are asked for by no request: see the words `as` and `accept`.
CONTENT_TYPES: Final = {name: f"image/{name}" for name in ("png", "jpeg", "webp", "gif", "bmp", "tiff", "avif")}
CACHE_BYTES: Final = 48_000_000
SKETCH_EDGE: Final = 900  # pixels of the long edge that is drawn; the rest is scaled up
INK: Final = 255  # the lightest shade, for letters
#: Dark, two tones, light: each picture is printed in one of these.
PALETTES: Final = (
    ("#10172b", "#3d3b8e", "#e07a5f", "#fdf1dc"),
    ("#0d2325", "#1f6f6b", "#e9b44c", "#fbf3dd"),
    ("#231123", "#82204a", "#f08a4b", "#fff0d9"),
    ("#0b1d33", "#1f5f8b", "#7cc6c3", "#f5f8ec"),
    ("#16210f", "#4b6b2f", "#c9b458", "#f7f4e0"),
    ("#1d1a31", "#4d4c7d", "#d8a7b1", "#fdf5ee"),
    ("#22150f", "#7a4419", "#d99f5c", "#fbf0df"),
    ("#0f1f2b", "#3b5f73", "#d96c4f", "#f6ecdd"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """What is to be seen."""

    prompt: str
    facts: str  # the small line: model, pixels, which of how many
    pixels: tuple[int, int]
    index: int = 0
    format: str = "png"
    blank: str = ""  # nothing but this colour, as "#ffffff"
    variant: str = ""  # nearly what is drawn without it: any other text makes another picture, hardly to be told apart


class Studio:
    """Draws, keeps what it drew last, and stamps each image with its task, so that no two are the same bytes."""

    def __init__(self) -> None:
        self._kept: OrderedDict[object, bytes] = OrderedDict()
        self._size = 0
        self._lock = Lock()

    def image(self, picture: Picture, stamp: str, *, plain: bool = False, at_least: int = 0) -> bytes:
        """The whole file."""
        what = (picture.pixels, picture.format, at_least) if plain else picture
        body = self._find(what)
        if body is None:
            body = encode(_plain(picture) if plain else draw(picture), picture.format)
            body = pad(body, picture.format, at_least)
            self._keep(what, body)
        return stamped(body, picture.format, stamp)

    def _find(self, what: object) -> bytes | None:
        with self._lock:
            if what in self._kept:
                self._kept.move_to_end(what)
            return self._kept.get(what)

    def _keep(self, what: object, body: bytes) -> None:
        with self._lock:
            self._size += len(body) - len(self._kept.pop(what, b""))
            self._kept[what] = body
            while self._size > CACHE_BYTES and len(self._kept) > 1:
                self._size -= len(self._kept.popitem(last=False)[1])


# -- drawing -------------------------------------------------------------------------------------------------------


def draw(picture: Picture) -> Image.Image:
    """The picture, mostly in a palette."""
    if picture.blank:
        return Image.new("RGB", picture.pixels, picture.blank)
    if picture.variant:
        return _varied(draw(replace(picture, variant="")), random.Random(picture.variant))
    chance = random.Random(_seed(picture))
    shades = _sketch(picture.pixels, chance).resize(picture.pixels, Image.Resampling.BICUBIC)
    _letter(shades, picture)
    shades.putpalette(_palette(chance))
    return shades


def _varied(image: Image.Image, chance: random.Random) -> Image.Image:
    """As after a second encoding: a little lighter or darker, and blurred by a size in between."""
    seen = image.convert("RGB")
    small = [max(8, round(edge * chance.uniform(0.5, 0.9))) for edge in seen.size]
    seen = seen.resize((small[0], small[1]), Image.Resampling.BICUBIC).resize(seen.size, Image.Resampling.BICUBIC)
    file = io.BytesIO()
    ImageEnhance.Brightness(seen).enhance(chance.uniform(0.96, 1.04)).save(file, "JPEG", quality=chance.randint(40, 90))
    return Image.open(file)


def _plain(picture: Picture) -> Image.Image:
    image = Image.new("L", picture.pixels, 96)
    image.putpalette(_palette(random.Random(0)))
    return image


def _seed(picture: Picture) -> int:
    text = f"{picture.prompt}/{picture.index}"
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest(), "big")


def _sketch(pixels: tuple[int, int], chance: random.Random) -> Image.Image:
    """A motif, small."""
    scale = min(1.0, SKETCH_EDGE / max(pixels))
    width, height = (max(8, round(edge * scale)) for edge in pixels)
    sheet = Image.linear_gradient("L").resize((width, height)).point(lambda shade: int(200 - shade * 0.42))
    chance.choice(MOTIFS)(sheet, chance)
    return sheet.filter(ImageFilter.GaussianBlur(0.8))


def _hills(sheet: Image.Image, chance: random.Random) -> None:
    """A sun over ranges of hills."""
    width, height = sheet.size
    pen = ImageDraw.Draw(sheet)
    _disc(pen, width * chance.uniform(0.2, 0.8), height * chance.uniform(0.2, 0.4), min(sheet.size) * 0.16, 244)
    for layer in range(5):
        top = height * (0.38 + 0.1 * layer)
        wave = [(chance.uniform(0.6, 2.6), chance.uniform(0, 7), height * chance.uniform(0.02, 0.07)) for _ in range(3)]
        line = [
            (x, top + sum(math.sin(x / width * 6.3 * f + p) * a for f, p, a in wave)) for x in range(0, width + 6, 6)
        ]
        pen.polygon([*line, (width + 6, height), (0, height)], fill=150 - 27 * layer)


def _moons(sheet: Image.Image, chance: random.Random) -> None:
    """Overlapping discs."""
    pen = ImageDraw.Draw(sheet)
    for number in range(9):
        radius = min(sheet.size) * chance.uniform(0.08, 0.34)
        x, y = chance.uniform(0, sheet.width), chance.uniform(0, sheet.height * 0.8)
        _disc(pen, x, y, radius, 60 + 20 * number)
        _disc(pen, x, y, radius * 0.72, 45 + 20 * number)


def _waves(sheet: Image.Image, chance: random.Random) -> None:
    """Bands that swing across."""
    width, height = sheet.size
    pen = ImageDraw.Draw(sheet)
    frequency, phase, swing = chance.uniform(0.7, 1.8), chance.uniform(0, 7), height * chance.uniform(0.05, 0.12)
    first = chance.randrange(200)
    for band in range(11):
        top = height * (band - 1) / 10
        line = [
            (x, top + math.sin(x / width * 6.3 * frequency + phase + band / 3) * swing) for x in range(0, width + 6, 6)
        ]
        pen.polygon([*line, (width + 6, height), (0, height)], fill=(band * 71 + first) % 200 + 30)


def _bloom(sheet: Image.Image, chance: random.Random) -> None:
    """Petals around a heart."""
    pen = ImageDraw.Draw(sheet)
    x, y = sheet.width * chance.uniform(0.3, 0.7), sheet.height * chance.uniform(0.28, 0.56)
    size = min(sheet.size) * chance.uniform(0.7, 1.15)
    petals, turn = chance.randint(7, 13), chance.uniform(0, 6)
    for ring in range(4):
        reach, radius = size * (0.36 - ring * 0.08), size * (0.17 - ring * 0.032)
        for petal in range(petals):
            angle = 6.2832 * petal / petals + turn + ring * 0.4
            _disc(
                pen, x + math.cos(angle) * reach, y + math.sin(angle) * reach, radius, 84 + 42 * ring - 8 * (petal % 2)
            )
    _disc(pen, x, y, size * 0.08, 246)


MOTIFS: Final[tuple[Callable[[Image.Image, random.Random], None], ...]] = (_hills, _moons, _waves, _bloom)


def _disc(pen: ImageDraw.ImageDraw, x: float, y: float, radius: float, shade: int) -> None:
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=shade)


def _letter(shades: Image.Image, picture: Picture) -> None:
    """The prompt and the facts on a dark band at the bottom."""
    width, height = shades.size
    big = max(10, round(math.sqrt(width * height) / 26))
    margin = round(big * 0.9)
    lines = _wrapped(picture.prompt, (width - 2 * margin) / (big * 0.56), most=max(1, min(4, height // (big * 5))))
    top = height - round(margin * 1.7 + big * 1.3 * len(lines) + big * 0.8)
    shades.paste(14, (0, max(0, top), width, height))
    pen = ImageDraw.Draw(shades)
    pen.text((margin, top + margin * 0.7), "\n".join(lines), fill=INK, font=_font(big), spacing=big * 0.3)
    small = max(8, round(big * 0.55))
    pen.text((margin, height - margin * 0.6 - small), picture.facts, fill=170, font=_font(small))


def _wrapped(text: str, columns: float, most: int) -> list[str]:
    clean = "".join(letter if letter.isprintable() else " " for letter in text[:600])
    return textwrap.wrap(clean, max(8, int(columns)), max_lines=most, placeholder=" …") or [""]


@lru_cache(maxsize=32)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    try:
        return ImageFont.truetype("DejaVuSans.ttf", size)
    except OSError:
        return ImageFont.load_default(size)


def _palette(chance: random.Random) -> bytes:
    """256 colours from dark over two tones to light."""
    stops = [bytes.fromhex(colour[1:]) for colour in chance.choice(PALETTES)]
    shades = (divmod(number * 3 / 255, 1) for number in range(256))
    return b"".join(_between(stops, min(int(place), 2), part + max(0, int(place) - 2)) for place, part in shades)


def _between(stops: list[bytes], place: int, part: float) -> bytes:
    return bytes(round(a + (b - a) * part) for a, b in zip(stops[place], stops[place + 1], strict=True))


# -- files ---------------------------------------------------------------------------------------------------------


def encode(image: Image.Image, kind: str) -> bytes:
    """Of any kind that is drawn here."""
    file = io.BytesIO()
    if kind == "png":
        image.save(file, "PNG", compress_level=1)
    elif kind in ("gif", "bmp", "tiff"):
        image.convert("P").save(file, kind.upper())
    else:
        image.convert("RGB").save(file, kind.upper(), quality=86, **({"method": 0} if kind == "webp" else {}))
    return file.getvalue()


def stamped(body: bytes, kind: str, text: str) -> bytes:
    """The same image, with a text nobody sees."""
    place = {"png": 33, "jpeg": 2}.get(kind, len(body))  # after IHDR; after SOI
    return _riff(body[:place] + _piece(kind, b"tEXt", b"task\0" + text.encode()) + body[place:], kind)


def pad(body: bytes, kind: str, at_least: int) -> bytes:
    """Filled up to about that many bytes; stays a valid file."""
    missing = at_least - len(body)
    while missing > 0:
        part = min(missing, 65_000)
        place = {"png": 33, "jpeg": 2}.get(kind, len(body))
        body = body[:place] + _piece(kind, b"sbOx", bytes(part)) + body[place:]
        missing -= part
    return _riff(body, kind)


def _piece(kind: str, name: bytes, content: bytes) -> bytes:
    if kind == "png":
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
    if kind == "jpeg":
        return b"\xff\xfe" + struct.pack(">H", len(content) + 2) + content
    if kind == "avif":
        return struct.pack(">I", len(content) + 8) + b"free" + content
    return b"sbOx" + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def _riff(body: bytes, kind: str) -> bytes:
    return body[:4] + struct.pack("<I", len(body) - 8) + body[8:] if kind == "webp" else body
