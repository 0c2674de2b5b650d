"""Whole images are told from everything else, by their bytes."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import struct
import time
import tracemalloc
import zlib

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps, features

from worker.images.check import BadImage, check, decode_fully


def picture(kind, size=(37, 23), **options):
    image = Image.effect_noise(size, 60).convert("RGBA" if options.pop("alpha", False) else "RGB")
    into = io.BytesIO()
    image.save(into, kind, **options)
    return into.getvalue()


WHOLE = {
    "png": ("png", "png", picture("PNG")),
    "jpeg": ("jpeg", "jpg", picture("JPEG")),
    "jpeg progressive": ("jpeg", "jpg", picture("JPEG", progressive=True)),
    "jpeg with restarts": ("jpeg", "jpg", picture("JPEG", restart_marker_blocks=1)),
    "jpeg with a thumbnail": ("jpeg", "jpg", picture("JPEG", exif=b"Exif\0\0" + picture("JPEG", (8, 8)))),
    "webp lossy": ("webp", "webp", picture("WEBP")),
    "webp lossless": ("webp", "webp", picture("WEBP", lossless=True)),
    "webp with alpha": ("webp", "webp", picture("WEBP", alpha=True)),
    "webp extended": ("webp", "webp", picture("WEBP", exif=b"Exif\0\0abc")),
}
each_whole = pytest.mark.parametrize(("kind", "ext", "data"), WHOLE.values(), ids=WHOLE.keys())


def problem(data):
    with pytest.raises(BadImage) as caught:
        check(data)
    return caught.value


@each_whole
def test_a_whole_image_is_told_from_bytes_and_from_a_file(kind, ext, data, tmp_path):
    (tmp_path / "x.html").write_bytes(data)

    for found in (check(data), check(tmp_path / "x.html")):
        assert (found.format, found.ext, found.content_type) == (kind, ext, f"image/{kind}")
        assert (found.width, found.height) == (37, 23)
        assert (found.size, found.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    decode_fully(data)
    decode_fully(tmp_path / "x.html")


@each_whole
def test_every_truncation_is_found(kind, ext, data):
    codes = {problem(data[:length]).code for length in range(1, len(data))}
    assert codes == {"truncated"}


@each_whole
def test_a_broken_file_is_told_like_broken_bytes(kind, ext, data, tmp_path):
    middle = len(data) // 2
    for number, broken in enumerate([data[:-1], data[:middle], data[:20], data[:30] + b"\xff" * 9 + data[39:]]):
        path = tmp_path / str(number)
        path.write_bytes(broken)
        try:
            expected = check(broken)
        except BadImage as bad:
            assert problem(path).message == bad.message  # noqa: PT017  as above
        else:
            assert check(path) == expected


@each_whole
def test_bytes_after_the_end_do_not_cost_a_paid_image(kind, ext, data):
    assert check(data + b"\0\0trailing").width == 37


def test_every_flipped_byte_of_a_png_is_found():
    data = WHOLE["png"][2]
    for at in range(len(data)):
        broken = bytearray(data)
        broken[at] ^= 0x41
        problem(bytes(broken))


@each_whole
@settings(max_examples=150, deadline=None)
@given(cuts=st.data())
def test_a_broken_image_never_ends_in_another_exception(kind, ext, data, cuts):
    broken = bytearray(data)
    for _ in range(cuts.draw(st.integers(1, 4))):
        at = cuts.draw(st.integers(0, len(broken) - 1))
        broken[at : at + cuts.draw(st.integers(0, 4))] = cuts.draw(st.binary(max_size=4))
        broken = broken or bytearray(b"\0")
    try:
        check(bytes(broken))
    except BadImage as bad:
        assert bad.code in {"truncated", "corrupt", "not_an_image", "too_many_pixels"}  # noqa: PT017  it may as well be whole


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\xff\0\0\0WEBP", b"RIFF"]),
    st.binary(max_size=60),
)
@example(b"RIFF\x0c\0\0\0WEBP", b"VP8L\0\0\0\0")
@example(b"\xff\xd8\xff", b"\xc0\0\2\xff\xda\0\2\xff\xd9")
def test_random_bytes_are_never_an_image_and_never_a_crash(start, rest):
    problem(start + rest)


@pytest.mark.parametrize(
    ("data", "code", "said"),
    [
        (b"", "truncated", "0 bytes"),
        (
            b"<!DOCTYPE html><html><head><title>Just a moment...</title><style>x{}</style>",
            "not_an_image",
            'HTML came: "Just a moment..."',
        ),
        (
            b"\xef\xbb\xbf\n <HTML><script>var a</script><h1>403</h1> Forbidden",
            "not_an_image",
            'HTML came: "403 Forbidden"',
        ),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "not_an_image", 'text came: "AccessDenied"'),
        (b'{"error": "expired"}', "not_an_image", "expired"),
        (b"GIF89a......", "truncated", "gif"),
        (b"\0\0\0\x1cftypavif\0\0\0\0", "truncated", "it ends"),
        (b"\1\2\3\0" * 10, "not_an_image", "01 02 03 00"),
        (bytes.fromhex("e8d3f26ac7ba91ff80aa" * 9), "not_an_image", "bytes of no known kind came: e8 d3 f2"),
        ("Größe unbekannt".encode("latin-1"), "not_an_image", "text came"),
        (b"RIFF\x24\0\0\0WAVEfmt ", "not_an_image", "no known kind"),
    ],
)
def test_what_came_instead_is_named(data, code, said):
    found = problem(data)
    assert found.code == code
    assert said in found.message


def test_an_empty_file_is_truncated(tmp_path):
    (tmp_path / "empty").touch()
    assert problem(tmp_path / "empty").code == "truncated"


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, pixels=b"x"):
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + (chunk(b"IDAT", pixels) if pixels else b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize("data", [png(0, 5), png(5, 5, b""), png(5, 5)[:8] + chunk(b"IEND", b"")])
def test_a_png_without_pixels_is_corrupt(data):
    assert problem(data).code == "corrupt"


def test_decoding_finds_what_the_structure_hides():
    lying = png(5, 5, zlib.compress(b"short"))
    check(lying)

    with pytest.raises(BadImage) as caught:
        decode_fully(lying)
    assert caught.value.code == "corrupt"


BOMBS = {
    "more pixels than any model makes": (png(9_000, 9_000, bytes(300_000)), "too_many_pixels"),
    "more pixels than its bytes can hold": (png(7_000, 7_000, zlib.compress(bytes(1000))), "corrupt"),
    "a claim without bytes": (png(100_000, 100_000, b""), "corrupt"),
    "jpeg": (picture("JPEG").replace(struct.pack(">HH", 23, 37), b"\xff\xff\xff\xff", 1), "too_many_pixels"),
}


@pytest.mark.parametrize(("bomb", "code"), BOMBS.values(), ids=BOMBS.keys())
def test_a_bomb_is_refused_before_anything_is_decoded(bomb, code, monkeypatch):
    monkeypatch.setattr(Image, "open", lambda *_args, **_kwargs: pytest.fail("it was opened"))

    for look in (check, decode_fully):
        with pytest.raises(BadImage) as caught:
            look(bomb)
        assert caught.value.code == code


@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from(["1", "L", "LA", "RGB", "RGBA", "P"]))
@settings(deadline=None, max_examples=40)
def test_no_honest_picture_is_taken_for_a_bomb(width, height, mode):
    into = io.BytesIO()
    Image.new(mode, (width, height)).save(into, "PNG", compress_level=9)

    assert check(into.getvalue()).width == width


def test_a_large_png_is_checked_at_the_speed_of_its_checksums(tmp_path):
    path = tmp_path / "big.png"
    path.write_bytes(png(3840, 2160, os.urandom(1_000_000) * 25))
    data = path.read_bytes()
    zlib.crc32(data), hashlib.sha256(data)  # warm

    start = time.process_time()
    zlib.crc32(data)
    hashlib.sha256(data)
    bare = time.process_time() - start
    start = time.process_time()
    check(path)
    took = time.process_time() - start

    assert took < 3 * bare + 0.02


def turned(kind, orientation):
    """A picture of 37 x 23 stored pixels that says how it is to be turned, as Pillow writes it."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return picture(kind, tiffinfo={0x0112: orientation}) if kind == "TIFF" else picture(kind, exif=exif)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_pixels_are_those_of_the_picture_as_it_is_shown(kind, orientation):
    data = turned(kind, orientation)
    with Image.open(io.BytesIO(data)) as image:
        shown = ImageOps.exif_transpose(image).size

    found = check(data)

    assert (found.width, found.height) == shown == ((37, 23) if orientation < 5 else (23, 37))


def test_a_heic_that_is_turned_by_its_own_box_is_told_as_it_is_shown():
    assert (check(heic(turns=1)).width, check(heic(turns=2)).width, check(heic(turns=3)).width) == (23, 37, 23)


@pytest.mark.parametrize("exif", [b"", b"II*\0", b"MM\0*\xff\xff\xff\xff", b"II*\0\x08\0\0\0\xff\xff\x12\x01", b"abc"])
def test_exif_data_that_cannot_be_read_turn_nothing(exif):
    found = check(picture("JPEG", exif=b"Exif\0\0" + exif))

    assert (found.width, found.height) == (37, 23)


def boxes(*parts):
    return b"".join(struct.pack(">I4s", 8 + len(body), kind) + body for kind, body in parts)


def heic(width=37, height=23, turns=0):
    """As small as one can be: Pillow writes none. `turns`: quarters."""
    ispe = [(b"ispe", struct.pack(">III", 0, *size)) for size in ((16, 16), (width, height))]
    meta = b"\0\0\0\0" + boxes((b"iprp", boxes((b"ipco", boxes(*ispe, (b"irot", bytes([turns])))))))
    return boxes((b"ftyp", b"heic\0\0\0\0mif1heic"), (b"meta", meta), (b"mdat", bytes(50)))


OTHERS = {
    "gif": picture("GIF"),
    "bmp": picture("BMP"),
    "tiff": picture("TIFF"),
    "tiff packed": picture("TIFF", compression="tiff_lzw"),
    "avif": picture("AVIF"),
    "heic": heic(),
}
each_other = pytest.mark.parametrize(("name", "data"), OTHERS.items(), ids=OTHERS.keys())


@each_other
def test_a_whole_picture_of_another_format_is_taken_for_what_it_is(name, data, tmp_path):
    (tmp_path / "x").write_bytes(data)

    for found in (check(data), check(tmp_path / "x")):
        kind = name.partition(" ")[0]
        assert (found.format, found.ext, found.content_type) == (kind, kind, f"image/{kind}")
        assert (found.width, found.height) == (37, 23)
    decode_fully(data)


@each_other
def test_one_that_is_cut_is_no_picture(name, data):
    for length in (len(data) - 1, len(data) * 2 // 3, 40):
        if name.startswith("tiff"):
            assert problem(data[:length]).code in {"truncated", "corrupt"}
        else:
            assert problem(data[:length]).code == "truncated"


def bitmap(width, height, depth, packing=0, size=0, start=54):
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, depth, packing, size, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, start) + head


def tiff(*tags, more=b""):
    """Of tags that are numbers, as (tag, how many, value or place)."""
    told = b"".join(struct.pack("<HHII", tag, 4, count, value) for tag, count, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + told + bytes(4) + more


META = (b"meta", bytes(4) + boxes((b"iprp", boxes((b"ipco", boxes((b"ispe", struct.pack(">III", 0, 9, 9))))))))
HOLLOW = {
    "a bitmap of pixels without bits": bitmap(1024, 1024, depth=0),
    "a bitmap packed into nothing": bitmap(1024, 1024, depth=8, packing=1),
    "a bitmap whose pixels are its header": bitmap(2, 2, depth=24, start=0),
    "a page that begins as a bitmap": bitmap(10, 10, depth=0) + b"<html><script>alert(1)</script>",
    "a TIFF whose strips are empty": tiff((256, 1, 9), (257, 1, 9), (273, 1, 0), (279, 1, 0)),
    "a GIF without data": b"GIF89a\x05\0\x05\0\0\0\0,\0\0\0\0\x05\0\x05\0\0\x02\0;",
    "an AVIF without data": boxes((b"ftyp", b"avif\0\0\0\0"), META, (b"mdat", b"")),
}


@pytest.mark.parametrize("data", HOLLOW.values(), ids=HOLLOW.keys())
def test_what_names_a_size_and_has_no_pixels_is_no_picture(data):
    assert problem(data).code in {"corrupt", "truncated"}


def test_a_tiff_of_many_long_tags_takes_no_more_memory_than_its_bytes():
    bomb = tiff(*((tag, 100_000, 8) for tag in range(40_000, 40_100)), more=bytes(400_000))
    check(OTHERS["tiff"])  # warm

    tracemalloc.start()
    assert problem(bomb).code == "corrupt"
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert most < 2 * len(bomb), "each tag was read: 100 times the file"


@pytest.mark.parametrize("at", range(16, len(OTHERS["avif"]), 7))
def test_what_a_decoder_trips_over_is_corrupt_and_nothing_else(at):
    broken = bytearray(OTHERS["avif"])
    broken[at] ^= 0x55

    with contextlib.suppress(BadImage):
        decode_fully(bytes(broken))


def test_an_avif_is_not_called_corrupt_by_a_library_that_cannot_read_any(monkeypatch):
    monkeypatch.setattr(features, "check", lambda _feature: False)
    monkeypatch.setattr(Image, "open", lambda *_args, **_kwargs: pytest.fail("it was opened"))

    decode_fully(OTHERS["avif"])


@pytest.mark.parametrize("drawing", [b'<?xml version="1.0"?>\n<svg onload="x()"/>', b"<svg></svg>"])
def test_a_drawing_is_named_and_never_taken_for_a_picture(drawing):
    assert problem(drawing).message == "SVG came, which is not one of png, jpeg, webp"


@each_other
def test_none_of_them_will_do_as_a_reference(name, data):
    with pytest.raises(BadImage, match=r"which is not one of png, jpeg, webp|no known kind"):
        check(data, usual=True)


@given(st.sampled_from(sorted(OTHERS.values())), st.integers(0, 400), st.binary(min_size=1, max_size=8))
@settings(max_examples=300, deadline=None)
def test_whatever_is_wrong_inside_one_it_is_told_and_no_fault(data, at, bad):
    with contextlib.suppress(BadImage):
        check(data[:at] + bad + data[at + len(bad) :])


@pytest.mark.parametrize("text", [b"BM and other words that begin so" * 3, b"II*", b"MM"])
def test_what_only_begins_like_one_is_none(text):
    assert problem(text).code in {"not_an_image", "truncated"}
