"""Pictures that nobody asked for, and that are whole all the same: GIF, BMP, TIFF, AVIF, HEIC, told from their bytes.

They are walked as far as each format says where it ends: GIF to its trailer, BMP and TIFF to the last of their pixels,
AVIF and HEIC box by box. What is paid and whole is kept as what it is.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

from worker.images.image_bytes import BadImage, Data, Size
from worker.images.orientation import ON_ITS_SIDE, ORIENTATION

#: Sizes of the headers that bitmaps have: two letters alone may begin any text.
BMP_HEADERS = frozenset({12, 40, 52, 56, 64, 108, 124})
AVIF_BRANDS = frozenset({b"avif", b"avis"})
HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
#: Strips or tiles that a TIFF may have.
MOST_PARTS = 1_000_000


def walker(data: Data) -> tuple[str, Callable[[Data], Size]] | None:
    """The format's name, and what walks it and tells its pixels; None for what is none of these."""
    start = bytes(data[:32])
    if start[:6] in (b"GIF87a", b"GIF89a"):
        return "gif", _walk_gif
    if start[:2] == b"BM" and int.from_bytes(start[14:18], "little") in BMP_HEADERS:
        return "bmp", _walk_bmp
    if start[:4] in (b"II*\x00", b"MM\x00*"):
        return "tiff", _walk_tiff
    if start[4:8] == b"ftyp":
        brands = _brands(data)
        if brands & AVIF_BRANDS:
            return "avif", _walk_boxes
        if brands & HEIC_BRANDS:
            return "heic", _walk_boxes
    return None


def _at(data: Data, at: int, count: int, name: str) -> bytes:
    part = bytes(data[at : at + count])
    if len(part) < count:
        raise BadImage("truncated", f"{name}: it ends at byte {len(data)}")
    return part


# -- GIF: blocks of sub-blocks, to a trailer -----------------------------------------------------------------------


def _walk_gif(data: Data) -> Size:
    head = _at(data, 0, 13, "gif")
    at, has_pixels = 13 + _table(head[10]), False
    while (kind := _at(data, at, 1, "gif")) != b";":
        if kind == b"!":
            at += 2
        elif kind == b",":
            at += 11 + _table(_at(data, at, 10, "gif")[9])
            has_pixels = has_pixels or _at(data, at, 1, "gif") != b"\0"
        else:
            raise BadImage("corrupt", f"gif: no block begins so at byte {at}")
        at = _behind_blocks(data, at)
    if not has_pixels:
        raise BadImage("corrupt", "gif: it has no pixels")
    width, height = struct.unpack("<HH", head[6:10])
    return width, height


def _table(packed: int) -> int:
    """Bytes of a table of colours, where there is one."""
    return 3 << ((packed & 7) + 1) if packed & 0x80 else 0


def _behind_blocks(data: Data, at: int) -> int:
    while length := _at(data, at, 1, "gif")[0]:
        at += 1 + length
    return at + 1


# -- BMP: a header, and rows of pixels -----------------------------------------------------------------------------

UNPACKED = frozenset({0, 3, 6})  # how its pixels are packed: not at all, with or without masks


def _walk_bmp(data: Data) -> Size:
    head = _at(data, 0, 26, "bmp")
    start, header = int.from_bytes(head[10:14], "little"), int.from_bytes(head[14:18], "little")
    packing = size = 0
    if header == 12:  # noqa: PLR2004  the oldest
        width, height, _, depth = struct.unpack("<HHHH", head[18:26])
    else:
        width, height, _, depth, packing, size = struct.unpack("<iiHHII", _at(data, 18, 20, "bmp"))
        width, height = abs(width), abs(height)
    pixels = (width * depth + 31) // 32 * 4 * height if packing in UNPACKED else size
    if not pixels or start < 14 + header:
        raise BadImage("corrupt", "bmp: it does not say where its pixels are")
    if start + pixels > len(data):
        raise BadImage("truncated", f"bmp: {len(data)} of {start + pixels} bytes came")
    return width, height


# -- TIFF: a directory of tags, which says where the strips or tiles are ---------------------------------------------

WIDTH, HEIGHT, TURNED = 256, 257, ORIENTATION
PARTS = ((273, 279), (324, 325))  # offsets and lengths: of strips, of tiles
#: The others are not read: many that say a million numbers each, at the same place, would take all memory.
READ = frozenset({WIDTH, HEIGHT, TURNED, *PARTS[0], *PARTS[1]})
INTEGERS = {1: 1, 3: 2, 4: 4}  # bytes by type


def _walk_tiff(data: Data) -> Size:
    order = "<" if bytes(data[:2]) == b"II" else ">"
    tags = _tiff_tags(data, order)
    parts = [(at, length) for at, length in PARTS if at in tags and any(tags.get(length, ()))]
    if not (parts and tags.get(WIDTH) and tags.get(HEIGHT)):
        raise BadImage("corrupt", "tiff: it does not say where its pixels are")
    for offsets, lengths in parts:
        end = max((a + b for a, b in zip(tags[offsets], tags[lengths], strict=False)), default=0)
        if end > len(data):
            raise BadImage("truncated", f"tiff: {len(data)} of {end} bytes came")
    size = tags[WIDTH][0], tags[HEIGHT][0]
    return size[::-1] if ON_ITS_SIDE & {*tags.get(TURNED, ())} else size


def _tiff_tags(data: Data, order: str) -> dict[int, tuple[int, ...]]:
    """Those of the first picture's tags that say where its pixels are."""
    (at,) = struct.unpack(f"{order}I", _at(data, 4, 4, "tiff"))
    (count,) = struct.unpack(f"{order}H", _at(data, at, 2, "tiff"))
    tags: dict[int, tuple[int, ...]] = {}
    for number in range(count):
        place = at + 2 + 12 * number
        tag, kind, values = struct.unpack(f"{order}HHI", _at(data, place, 8, "tiff"))
        if kind not in INTEGERS or values > MOST_PARTS:
            continue
        begins = _tiff_place(data, order, place + 8, INTEGERS[kind] * values)
        if tag in READ and tag not in tags:
            numbers = f"{order}{values}{'BHI'[(1, 3, 4).index(kind)]}"
            tags[tag] = struct.unpack(numbers, _at(data, begins, INTEGERS[kind] * values, "tiff"))
    return tags


def _tiff_place(data: Data, order: str, place: int, size: int) -> int:
    """Where a tag's values are, all of which must be there."""
    if size > 4:  # noqa: PLR2004  what fits stands in the tag itself
        (place,) = struct.unpack(f"{order}I", _at(data, place, 4, "tiff"))
    if place + size > len(data):
        raise BadImage("truncated", f"tiff: it ends at byte {len(data)}")
    return place


# -- AVIF, HEIC: boxes within boxes (ISO/IEC 14496-12, 23008-12) ---------------------------------------------------


def _brands(data: Data) -> set[bytes]:
    size = min(int.from_bytes(data[:4], "big"), 256)
    told = bytes(data[8:size])
    return {told[at : at + 4] for at in range(0, len(told), 4) if at != 4}  # noqa: PLR2004  the minor version


def _walk_boxes(data: Data) -> Size:
    top = {kind: (at, end) for kind, at, end in _boxes(data, 0, len(data)) if end > at}
    if b"meta" not in top:
        raise BadImage("truncated", "it ends before it says what is in it")
    inside = {kind: (at, end) for kind, at, end in _boxes(data, top[b"meta"][0] + 4, top[b"meta"][1])}
    if b"mdat" not in top and b"idat" not in inside:
        raise BadImage("truncated", "it ends before its pixels")
    sizes = list(_sizes(data, *inside[b"iprp"])) if b"iprp" in inside else []
    if not sizes:
        raise BadImage("corrupt", "it says no size")
    largest = max(sizes, key=lambda size: size[0] * size[1])  # tiles and thumbnails are smaller
    return largest[::-1] if _is_on_its_side(data, *inside[b"iprp"]) else largest


def _sizes(data: Data, start: int, end: int) -> Iterator[Size]:
    for kind, place in _properties(data, start, end):
        if kind == b"ispe":
            width, height = struct.unpack(">II", _at(data, place + 4, 8, "it"))
            yield width, height


def _is_on_its_side(data: Data, start: int, end: int) -> bool:
    """Whether it is shown after a quarter turn (irot: quarters against the clock). Exif says nothing here."""
    return any(_at(data, place, 1, "it")[0] & 1 for kind, place in _properties(data, start, end) if kind == b"irot")


def _properties(data: Data, start: int, end: int) -> Iterator[tuple[bytes, int]]:
    for kind, at, until in _boxes(data, start, end):
        if kind == b"ipco":
            yield from ((inner, place) for inner, place, _ in _boxes(data, at, until))


def _boxes(data: Data, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, and where its contents begin and end, of each box."""
    while at < end:
        size, kind = struct.unpack(">I4s", _at(data, at, 8, "it"))
        begins = at + 8
        if size == 1:
            (size,) = struct.unpack(">Q", _at(data, begins, 8, "it"))
            begins += 8
        until = at + size if size else end
        if until > end:
            raise BadImage("truncated", f"it ends within a box, at byte {end}")
        if until < begins:
            raise BadImage("corrupt", f"a box at byte {at} has no length")
        yield kind, begins, until
        at = until
