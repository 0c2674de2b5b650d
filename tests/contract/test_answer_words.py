"""What a provider's refusal says to people, when its body is no document."""

from __future__ import annotations

import pytest

from providers.dialects.answers import error_words
from providers.types import Response


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"upstream is gone", "upstream is gone"),
        ("zu groß".encode("latin-1"), "zu gro\ufffd"),
        (bytes.fromhex("e8d3f26ac7ba91ff80aa") * 9, ""),
        (b"<html>no</html>", ""),
    ],
)
def test_bytes_that_are_no_text_are_not_shown_as_a_reason(body, said):
    assert error_words(Response(status=500, headers={}, body=body), {}) == said
