"""Whether bytes are a whole image, told from the bytes alone, without decoding them.

A PNG's chunks carry checksums, so any change to it is found; a JPEG is walked to its end marker, a WebP to the length
it declares: a cut is found, a flipped pixel is not (that takes `decode_fully`). Bytes after an image's end are kept:
every reader ignores them, and the image is paid.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import mmap
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from worker.images.image_bytes import BadImage, Data, Size
from worker.images.orientation import EXIF, EXIF_AT_MOST, as_shown
from worker.images.other_formats import walker

__all__ = ["USUAL", "BadImage", "Checked", "check", "checked", "decode_fully", "decoded_size", "plain_words"]

#: An image of more pixels is refused: 4k has 8 million, 8k 33. Decoded, each takes 4 bytes of memory.
PIXELS = 64_000_000
#: Bytes that one byte of PNG's compressed data can make at most. A file that claims more than that is no image.
DEFLATE_AT_MOST = 1_032
#: A pixel's samples by PNG's colour type.
SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
#: What providers make, and what is asked for.
USUAL = frozenset({"png", "jpeg", "webp"})
SAID = 80  # characters of a text that came in an image's place

PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8\xff"
RIFF = b"RIFF"
WEBP = b"WEBP"
MAGIC_BYTES = 12
TEXT_BYTES = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What the bytes are."""

    format: str  # "png", "jpeg", "webp"; or "gif", "bmp", "tiff", "avif", "heic", which nobody asks for
    ext: str  # the same, but "jpg"
    content_type: str
    width: int  # pixels as shown: after the picture was turned, where it says that it is to be turned
    height: int
    sha256: str
    size: int  # bytes


def check(source: Path | bytes, *, usual: bool = False) -> Checked:
    """Reads an image's structure to its end; raises `BadImage`. Of a file, no more than a few pages are held.

    `usual`: only png, jpeg and webp will do.
    """
    with _opened(source) as data:
        name, walk = _format(data, usual=usual)
        width, height = walk(data)
        if not (width and height):
            raise BadImage("corrupt", f"{name}: it says to be {width}x{height} pixels")
        if width * height > PIXELS:
            raise BadImage("too_many_pixels", f"{name}: it says to be {width}x{height} pixels")
        digest = hashlib.sha256(data).hexdigest()
        return checked(format_=name, width=width, height=height, sha256=digest, size=len(data))


def checked(*, format_: str, width: int, height: int, sha256: str, size: int) -> Checked:
    """An image that is known: from its bytes, or from when they were stored. `size`: bytes."""
    return Checked(
        format=format_,
        ext="jpg" if format_ == "jpeg" else format_,
        content_type=f"image/{format_}",
        width=width,
        height=height,
        sha256=sha256,
        size=size,
    )


def decode_fully(source: Path | bytes) -> None:
    """Decodes every pixel (17 ms for 1k, 133 ms for 4k); raises `BadImage`. Not for the event loop.

    It takes `decoded_size` bytes of memory while it lasts.
    """
    from PIL import Image, features  # noqa: PLC0415  most runs do without

    found = check(source)
    if found.format == "heic" or (found.format == "avif" and not features.check("avif")):
        return  # Pillow cannot; it was walked
    Image.MAX_IMAGE_PIXELS = None  # the limit above holds; Pillow's own would warn on what we allow
    opened = io.BytesIO(source) if isinstance(source, bytes) else source
    try:
        with Image.open(opened, formats=[found.format]) as image:
            image.load()
    except MemoryError:
        raise  # which says nothing of the picture
    except Exception as error:  # each of Pillow's decoders has errors of its own
        raise BadImage("corrupt", f"{found.format}: cannot be decoded: {error}") from error


def decoded_size(found: Checked) -> int:
    """Bytes that its pixels take when they are decoded, at most."""
    return found.width * found.height * 4


@contextlib.contextmanager
def _opened(source: Path | bytes) -> Iterator[Data]:
    if isinstance(source, bytes):
        yield source
        return
    with source.open("rb") as file:
        if not file.seek(0, io.SEEK_END):
            raise BadImage("truncated", "the file is empty")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            yield mapped


def _format(data: Data, *, usual: bool) -> tuple[str, Callable[[Data], Size]]:
    start = bytes(data[:MAGIC_BYTES])
    if start.startswith(PNG):
        return "png", _walk_png
    if start.startswith(JPEG):
        return "jpeg", _walk_jpeg
    if start.startswith(RIFF) and start[8:] == WEBP:
        return "webp", _walk_webp
    if not usual and (other := walker(data)) is not None:
        return other
    if _cut_magic(start):
        raise BadImage("truncated", f"only {len(data)} bytes came")
    raise BadImage("not_an_image", _what_came(data))


def _cut_magic(start: bytes) -> bool:
    webp = start.startswith(RIFF) and len(start) < MAGIC_BYTES and WEBP.startswith(start[8:])
    return webp or any(magic.startswith(start) for magic in (PNG, JPEG, RIFF))


# -- PNG: length, type, data, checksum of type and data ------------------------------------------------------------


def _walk_png(data: Data) -> Size:
    size: Size | None = None
    raw = packed = 0
    exif = b""
    with memoryview(data) as view:
        for kind, at, length in _png_chunks(view):
            if kind == b"eXIf":
                exif = bytes(view[at : at + min(length, EXIF_AT_MOST)])
            if size is None:
                size = _png_size(view, kind, at, length)
                raw = _png_raw(size, depth=view[at + 8], colour=view[at + 9])
            packed += length if kind == b"IDAT" else 0
    if size is None or not packed:
        raise BadImage("corrupt", "png: it has no pixels")
    if raw > packed * DEFLATE_AT_MOST:
        raise BadImage("corrupt", f"png: {packed} bytes cannot hold {size[0]}x{size[1]} pixels")
    return as_shown(size, exif)


def _png_raw(size: Size, *, depth: int, colour: int) -> int:
    """Bytes of its pixels, at least: interlaced ones have more lines, each with a byte of its own."""
    width, height = size
    return height * (1 + (width * depth * SAMPLES.get(colour, 1) + 7) // 8)


def _png_chunks(view: memoryview) -> Iterator[tuple[bytes, int, int]]:
    """Type, place and length of each chunk's data, its checksum proven; ends after IEND."""
    at = len(PNG)
    kind = b""
    while kind != b"IEND":
        length = int.from_bytes(view[at : at + 4], "big")
        end = at + 8 + length
        kind = bytes(view[at + 4 : at + 8])
        _demand_checksum(view, at, end, kind)
        yield kind, at + 8, length
        at = end + 4


def _demand_checksum(view: memoryview, at: int, end: int, kind: bytes) -> None:
    if end + 4 > len(view):
        raise BadImage("truncated", f"png: it ends within a chunk, at byte {len(view)}, or the chunk's length is wrong")
    with view[at + 4 : end] as covered:
        if zlib.crc32(covered) != int.from_bytes(view[end : end + 4], "big"):
            raise BadImage("corrupt", f"png: the checksum of chunk {kind!r} at byte {at} does not hold")


def _png_size(view: memoryview, kind: bytes, at: int, length: int) -> Size:
    if kind != b"IHDR" or length != 13:  # noqa: PLR2004  the format's number
        raise BadImage("corrupt", "png: it does not begin with its header")
    return int.from_bytes(view[at : at + 4], "big"), int.from_bytes(view[at + 4 : at + 8], "big")


# -- JPEG: segments of marker and length; after a start of scan, data until the next marker ------------------------

EOI, SOS, APP1 = 0xD9, 0xDA, 0xE1
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0 to SOF15; the three mean something else
BARE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a length
#: A marker that ends a scan's data: not a stuffed FF, not a restart.
NEXT_MARKER = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")


def _walk_jpeg(data: Data) -> Size:
    size: Size | None = None
    has_pixels = False
    exif = b""
    for marker, at, length in _jpeg_segments(data):
        if marker == APP1 and not exif and bytes(data[at + 2 : at + 8]) == EXIF:
            exif = bytes(data[at + 8 : at + length])
        if marker in FRAMES and length >= 7:  # noqa: PLR2004  length, precision, height, width
            size = int.from_bytes(data[at + 5 : at + 7], "big"), int.from_bytes(data[at + 3 : at + 5], "big")
        has_pixels = has_pixels or marker == SOS
    if size is None or not has_pixels:
        raise BadImage("corrupt", "jpeg: it has no pixels")
    return as_shown(size, exif)


def _jpeg_segments(data: Data) -> Iterator[tuple[int, int, int]]:
    """Marker, place and length of each segment; ends at the end marker."""
    at = 2
    while True:
        marker, at = _marker(data, at)
        if marker == EOI:
            return
        if marker in BARE:
            continue
        length = int.from_bytes(data[at : at + 2], "big")
        _demand_segment(data, at, length)
        yield marker, at, length
        at += length
        if marker == SOS:
            at = _end_of_scan(data, at)


def _marker(data: Data, at: int) -> tuple[int, int]:
    """The marker at a place, and the place behind it."""
    if at < len(data) and data[at] != 0xFF:  # noqa: PLR2004  every marker begins with it
        raise BadImage("corrupt", f"jpeg: no marker at byte {at}")
    while at < len(data) and data[at] == 0xFF:  # noqa: PLR2004  any number of them
        at += 1
    if at >= len(data):
        raise BadImage("truncated", f"jpeg: it ends at byte {at} without its end marker")
    return data[at], at + 1


def _demand_segment(data: Data, at: int, length: int) -> None:
    if at + length > len(data) or at + 2 > len(data):
        raise BadImage("truncated", f"jpeg: it ends within a segment, at byte {len(data)}")
    if length < 2:  # noqa: PLR2004  a length counts itself
        raise BadImage("corrupt", f"jpeg: a segment at byte {at} has no length")


def _end_of_scan(data: Data, at: int) -> int:
    found = NEXT_MARKER.search(data, at)
    if found is None:
        raise BadImage("truncated", f"jpeg: it ends at byte {len(data)} without its end marker")
    return found.start()


# -- WebP: RIFF, with chunks of type, length, data, padded to even -------------------------------------------------


def _walk_webp(data: Data) -> Size:
    end = 8 + int.from_bytes(data[4:8], "little")
    if end > len(data):
        raise BadImage("truncated", f"webp: {len(data)} of {end} bytes came")
    sizes: list[Size] = []
    has_pixels = False
    exif = b""
    for kind, at, length in _webp_chunks(data, end):
        if kind == b"EXIF":
            exif = bytes(data[at : at + min(length, EXIF_AT_MOST)])
        if reader := WEBP_SIZES.get(kind):
            sizes.append(reader(bytes(data[at : at + min(length, 10)])))
        has_pixels = has_pixels or kind in {b"VP8 ", b"VP8L", b"ANMF"}
    if not (sizes and has_pixels):
        raise BadImage("corrupt", "webp: it has no pixels")
    return as_shown(sizes[0], exif)


def _webp_chunks(data: Data, end: int) -> Iterator[tuple[bytes, int, int]]:
    at = MAGIC_BYTES
    while at < end:
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        if at + 8 + length > end:
            raise BadImage("corrupt", f"webp: a chunk at byte {at} is longer than the file")
        yield bytes(data[at : at + 4]), at + 8, length
        at += 8 + length + length % 2


def _lossy_size(head: bytes) -> Size:
    if head[3:6] != b"\x9d\x01\x2a":
        raise BadImage("corrupt", "webp: its picture does not begin as one")
    return int.from_bytes(head[6:8], "little") & 0x3FFF, int.from_bytes(head[8:10], "little") & 0x3FFF


def _lossless_size(head: bytes) -> Size:
    if head[:1] != b"\x2f":
        raise BadImage("corrupt", "webp: its picture does not begin as one")
    bits = int.from_bytes(head[1:5], "little")
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1


def _extended_size(head: bytes) -> Size:
    return int.from_bytes(head[4:7], "little") + 1, int.from_bytes(head[7:10], "little") + 1


WEBP_SIZES: dict[bytes, Callable[[bytes], Size]] = {
    b"VP8X": _extended_size,
    b"VP8 ": _lossy_size,
    b"VP8L": _lossless_size,
}


# -- what came instead ---------------------------------------------------------------------------------------------

OTHERS = (
    (b"GIF8", "a GIF"),
    (b"BM", "a BMP"),
    (b"II*\x00", "a TIFF"),
    (b"MM\x00*", "a TIFF"),
    (b"%PDF", "a PDF"),
    (b"\x1f\x8b", "something packed with gzip"),
    (b"PK\x03\x04", "a zip file"),
)


def _what_came(data: Data) -> str:
    start = bytes(data[:TEXT_BYTES])
    for magic, name in OTHERS:
        if start.startswith(magic):
            return f"{name} came, which is not one of png, jpeg, webp"
    if start[4:8] == b"ftyp":
        return f"{start[8:12].decode('ascii', 'replace')} came, which is not one of png, jpeg, webp"
    return _text_that_came(start)


def _text_that_came(start: bytes) -> str:
    text = start.decode("utf-8", "replace").lstrip("\ufeff \r\n\t")
    if not _is_text(text):
        return f"bytes of no known kind came: {start[:16].hex(' ')}"
    kind = "HTML" if re.match(r"<(!doctype|html|head|body)\b|<!--", text, re.IGNORECASE) else "text"
    kind = "SVG" if re.search(r"<svg\b", text, re.IGNORECASE) and kind == "text" else kind
    words = plain_words(start)
    return f'{kind} came: "{words}"' if words else f"{kind} came, which is not one of png, jpeg, webp"


def _is_text(text: str) -> bool:
    """Whether a person could read it: no control characters, and few bytes that are no UTF-8."""
    start = text[:SAID]
    odd = any(c < " " and c not in "\r\n\t" for c in start)
    return bool(start) and not odd and start.count("\ufffd") * 5 <= len(start)


def plain_words(start: bytes) -> str:
    """The first words of a text as a person reads them: no markup, no scripts; "" for bytes that are no text."""
    text = start.decode("utf-8", "replace").lstrip("\ufeff \r\n\t")
    if not _is_text(text):
        return ""
    plain = re.sub(r"(?is)<(script|style)\b.*?(</\1>|$)|<[^>]*(>|$)", " ", text)
    return " ".join(plain.split())[:SAID]
