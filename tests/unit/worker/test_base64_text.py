"""Images that came as base64 are read in every form that somebody writes; what is none is kept as it came."""

from __future__ import annotations

import base64
import io

import pytest
from PIL import Image

from providers.dialects.reading import links
from worker.images.base64_text import decoded


def picture():
    """One whose base64 has letters of both alphabets, and needs padding."""
    for seed in range(100):
        into = io.BytesIO()
        Image.frombytes("RGB", (40, 30), bytes((seed * 7 + n * n) % 251 for n in range(3600))).save(into, "PNG")
        text = base64.b64encode(into.getvalue()).decode()
        if "+" in text and "/" in text and text.endswith("="):
            return into.getvalue()
    raise AssertionError


BYTES = picture()
PLAIN = base64.b64encode(BYTES).decode()
URL_SAFE = base64.urlsafe_b64encode(BYTES).decode()
WRAPPED = base64.encodebytes(BYTES).decode()

FORMS = {
    "plain": PLAIN,
    "unpadded": PLAIN.rstrip("="),
    "padded too much": PLAIN.rstrip("=") + "===",
    "URL-safe": URL_SAFE,
    "URL-safe and unpadded": URL_SAFE.rstrip("="),
    "wrapped": WRAPPED,
    "wrapped with CRLF and indented": WRAPPED.replace("\n", "\r\n  "),
    "wrapped with blanks": WRAPPED.replace("\n", " "),
    "wrapped with escapes": WRAPPED.replace("\n", "\\n"),
    "blanks for plus": PLAIN.replace("+", " "),
    "blanks for plus, wrapped": WRAPPED.replace("+", " "),
    "percent signs": PLAIN.replace("+", "%2B").replace("=", "%3D").replace("/", "%2F"),
    "a data URI": f"data:image/png;base64,{PLAIN}",
    "in capitals": f"DATA:IMAGE/PNG;BASE64,{PLAIN}",
    "with a charset": f"data:image/png;charset=utf-8;base64,{PLAIN}",
    "without a type": f"data:;base64,{PLAIN}",
    "of another type": f"data:application/octet-stream;base64,{PLAIN}",
    "after white space": f"\n data:image/png;base64,\n{WRAPPED}",
    "a data URI for addresses": f"data:image/png;base64,{URL_SAFE.rstrip('=')}",
    "after a mark": f"\ufeff{PLAIN}",
}
each_form = pytest.mark.parametrize("text", FORMS.values(), ids=FORMS.keys())


@each_form
def test_every_form_gives_the_bytes(text):
    assert decoded(text) == BYTES


@each_form
def test_every_form_comes_through_the_reading_of_an_answer(text):
    (link,) = links({"b64_json": text})

    assert decoded(link.b64) == BYTES


@pytest.mark.parametrize("text", [text for text in FORMS.values() if "data:" in text.lower()])
def test_a_data_uri_in_an_addresss_place_is_read_too(text):
    (link,) = links({"url": text})

    assert (link.url, decoded(link.b64)) == (None, BYTES)


@pytest.mark.parametrize(
    "text",
    [
        "<html>502 Bad Gateway</html>",
        "not an image!",
        "content moderated: see policy",
        PLAIN[:-5] + "!" + PLAIN[-4:],
        "\ud800",
    ],
)
def test_what_is_no_base64_is_kept_as_it_came(text):
    assert decoded(text) == text.encode("utf-8", "replace")
    (link,) = links({"b64_json": text})
    assert decoded(link.b64) == text.encode("utf-8", "replace")
