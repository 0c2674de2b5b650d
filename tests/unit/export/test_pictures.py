"""Pictures in another format or smaller."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from worker.export.pictures import Conversion, convert


def asked(kind=None, quality=95, max_side=None):
    return Conversion(format=kind, quality=quality, max_side=max_side)


def encoded(picture, kind="png", **more):
    file = io.BytesIO()
    picture.save(file, kind, **more)
    return file.getvalue()


def opened(made):
    return Image.open(io.BytesIO(made.data))


@pytest.mark.parametrize(("kind", "ending"), [("jpeg", "jpg"), ("png", "png"), ("webp", "webp")])
def test_a_picture_becomes_another_format_with_its_ending(kind, ending):
    made = convert(encoded(Image.new("RGB", (60, 40), "teal")), "png", asked(kind))

    assert (opened(made).format, made.ending, made.width, made.height) == (kind.upper(), ending, 60, 40)


def test_bytes_stay_as_they_are_where_nothing_has_to_become_of_them():
    data = encoded(Image.new("RGB", (60, 40)), "webp")

    assert convert(data, "webp", asked(max_side=60)).data == data


def test_only_larger_pictures_become_smaller_and_keep_their_shape_and_format():
    large = convert(encoded(Image.new("RGB", (400, 100)), "jpeg"), "jpg", asked(max_side=200))
    small = convert(encoded(Image.new("RGB", (40, 10))), "png", asked("webp", max_side=200))

    assert (opened(large).format, opened(large).size, large.width, large.height) == ("JPEG", (200, 50), 200, 50)
    assert opened(small).size == (40, 10)


def test_what_shows_through_is_white_in_jpeg_and_stays_elsewhere():
    data = encoded(Image.new("RGBA", (20, 20), (255, 0, 0, 0)))

    red, green, blue = opened(convert(data, "png", asked("jpeg"))).getpixel((5, 5))
    assert min(red, green, blue) > 250
    assert opened(convert(data, "png", asked("webp"))).getpixel((5, 5))[3] == 0


def test_a_picture_is_turned_as_its_camera_says():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(Image.new("RGB", (60, 40)), "jpeg", exif=exif)

    made = convert(data, "jpg", asked("png"))

    assert (made.width, made.height) == opened(made).size == (40, 60)
    assert 0x0112 not in opened(made).getexif()


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "I;16", "1", "LA"])
def test_pictures_of_every_mode_become_jpeg(mode):
    data = encoded(Image.new(mode, (20, 20)), "jpeg" if mode == "CMYK" else "png")

    assert opened(convert(data, "png", asked("jpeg"))).mode == "RGB"


def test_sixteen_bits_of_grey_keep_what_can_be_seen():
    grey = Image.new("I;16", (20, 20), 0x8000)
    grey.putpixel((0, 0), 0xFFFF)

    made = opened(convert(encoded(grey, "png"), "png", asked("png")))

    assert (made.getpixel((0, 0)), made.getpixel((5, 5))) == ((255,) * 3, (128,) * 3)


@pytest.mark.parametrize("data", [b"", b"no picture", encoded(Image.new("RGB", (90, 90), "red"), "bmp")[:900]])
def test_what_is_no_whole_picture_is_told(data):
    assert convert(data, "png", asked("jpeg")) is None


def test_the_same_picture_becomes_the_same_bytes():
    data = encoded(Image.effect_noise((80, 80), 50).convert("RGB"))

    assert convert(data, "png", asked("webp")).data == convert(data, "png", asked("webp")).data
    assert len(convert(data, "png", asked("jpeg", quality=20)).data) < len(convert(data, "png", asked("jpeg")).data)
