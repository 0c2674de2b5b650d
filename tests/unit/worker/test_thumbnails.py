"""Small copies of pictures: the way up that people see them, made once, and none of what is no picture."""

from __future__ import annotations

import io
import struct

import pytest
from PIL import Image, ImageOps

from jobs.errors import StoreError
from worker.images.thumbnails import SIDE, Thumbnails, small


def picture(size=(1536, 1024), *, mode="RGB", format="PNG", **options):  # noqa: A002  as Pillow says
    target = io.BytesIO()
    Image.new(mode, size).save(target, format, **options)
    return target.getvalue()


def opened(data):
    return Image.open(io.BytesIO(data))


def test_a_small_copy_has_the_pictures_ratio():
    copy = opened(small(picture()))

    assert (copy.format, copy.size) == ("WEBP", (SIDE, SIDE * 1024 // 1536))


def test_a_picture_that_is_turned_by_its_exif_is_turned_in_the_copy():
    turned = Image.Exif()
    turned[0x0112] = 6

    assert opened(small(picture(format="JPEG", exif=turned))).size == (SIDE * 1024 // 1536, SIDE)


def test_what_shines_through_still_does_and_a_small_picture_does_not_grow():
    copy = opened(small(picture((64, 32), mode="RGBA")))

    assert (copy.mode, copy.size) == ("RGBA", (64, 32))


@pytest.mark.parametrize(("mode", "kind"), [("I;16", "PNG"), ("I;16B", "TIFF")])
def test_sixteen_bits_of_grey_are_grey_in_the_copy_and_not_white(mode, kind):
    target = io.BytesIO()
    Image.frombytes(mode, (64, 64), b"\x80\x80" * 64 * 64).save(target, kind)

    copy = Image.open(io.BytesIO(small(target.getvalue())))

    assert abs(copy.convert("L").getpixel((5, 5)) - 128) < 4


@pytest.mark.parametrize("data", [b"", b"<html>", picture()[:200], picture(format="JPEG")[:500]])
def test_what_is_no_whole_picture_has_no_copy(data):
    assert small(data) is None


def test_copies_that_cannot_be_made_are_counted_and_keep_no_other_from_being_made(tmp_path):
    kept, through = Thumbnails(tmp_path / "small"), []

    def denied():
        raise StoreError(code="bucket_denied", message="403", retryable=False)

    wanted = [(kept.name("a" * 64), picture), (kept.name("b" * 64), denied), (kept.name("c" * 64), lambda: None)]
    failed = kept.make(wanted, through.append)

    assert (failed, through) == (2, [1, 2, 3])
    assert [kept.missing(letter * 64) for letter in "abc"] == [False, True, True]
    assert [path.name for path in (tmp_path / "small").iterdir()] == [kept.name("a" * 64)]


# What Pillow's plugins for AVIF, DDS and Exif have raised at odd pictures.
@pytest.mark.parametrize("trouble", [RuntimeError, NotImplementedError, struct.error])
def test_a_picture_that_breaks_a_plugin_has_no_copy(monkeypatch, trouble):
    monkeypatch.setattr(ImageOps, "exif_transpose", lambda _picture: (_ for _ in ()).throw(trouble("odd")))

    assert small(picture()) is None
