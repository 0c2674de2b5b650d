"""Which pixels each provider makes of a ratio, a resolution or a size."""

from __future__ import annotations

from typing import Final

Pixels = tuple[int, int]

RESOLUTIONS: Final = ("1k", "2k", "4k")

#: MaxAPI.io's own table for gpt-image-2; a missing 4k is not allowed.
IO: Final[dict[str, tuple[Pixels, ...]]] = {
    "1:1": ((1024, 1024), (2048, 2048)),
    "3:2": ((1536, 1024), (2048, 1360)),
    "2:3": ((1024, 1536), (1360, 2048)),
    "4:3": ((1024, 768), (2048, 1536)),
    "3:4": ((768, 1024), (1536, 2048)),
    "5:4": ((1280, 1024), (2560, 2048)),
    "4:5": ((1024, 1280), (2048, 2560)),
    "16:9": ((1536, 864), (2048, 1152), (3840, 2160)),
    "9:16": ((864, 1536), (1152, 2048), (2160, 3840)),
    "2:1": ((2048, 1024), (2688, 1344), (3840, 1920)),
    "1:2": ((1024, 2048), (1344, 2688), (1920, 3840)),
    "21:9": ((2016, 864), (2688, 1152), (3840, 1648)),
    "9:21": ((864, 2016), (1152, 2688), (1648, 3840)),
}

#: APIMaster documents 1:1 and 16:9; its 4k extras come from a lookalike, the rest are MaxAPI.io's or near the ratio.
_APIMASTER_4K: Final[dict[str, Pixels]] = {
    "1:1": (2880, 2880),
    "3:2": (3520, 2336),
    "2:3": (2336, 3520),
    "4:3": (3312, 2480),
    "3:4": (2480, 3312),
    "5:4": (3216, 2576),
    "4:5": (2576, 3216),
}
APIMASTER: Final[dict[str, tuple[Pixels, ...]]] = {
    **{ratio: (*sizes[:2], _APIMASTER_4K.get(ratio, sizes[-1])) for ratio, sizes in IO.items()},
    "3:1": ((1776, 592), (3072, 1024), (3840, 1280)),
    "1:3": ((592, 1776), (1024, 3072), (1280, 3840)),
}

#: Grok's pixels are documented nowhere.
GROK: Final[dict[str, dict[str, Pixels]]] = {
    "1:1": {"720p": (960, 960), "1080p": (1440, 1440)},
    "16:9": {"720p": (1280, 720), "1080p": (1920, 1080)},
    "9:16": {"720p": (720, 1280), "1080p": (1080, 1920)},
}

WIDE_WORDS: Final = ("wide", "landscape", "panorama", "horizontal", "banner")
TALL_WORDS: Final = ("tall", "portrait", "vertical", "upright")


def of_words(prompt: str) -> Pixels:
    """Grok lite reads the orientation from the prompt."""
    text = prompt.lower()
    if any(word in text for word in WIDE_WORDS):
        return GROK["16:9"]["720p"]
    if any(word in text for word in TALL_WORDS):
        return GROK["9:16"]["720p"]
    return (1024, 1024)


def nearest_ratio(size: Pixels, table: dict[str, tuple[Pixels, ...]]) -> str:
    """The ratio of the table that comes nearest to a reference's."""
    wanted = size[0] / size[1]
    return min(table, key=lambda ratio: abs(table[ratio][0][0] / table[ratio][0][1] - wanted))


def read_size(text: str) -> Pixels | None:
    """`1024x1536` as two numbers; None when it is none."""
    width, _, height = text.partition("x")
    digits = width.isascii() and height.isascii() and width.isdigit() and height.isdigit()
    return (int(width), int(height)) if digits and len(text) < 12 else None  # noqa: PLR2004  99999x99999


def openai_problem(size: Pixels) -> str | None:
    """What OpenAI's published limits say against a size; None when nothing."""
    width, height = size
    if width % 16 or height % 16:
        return "both edges must be multiples of 16"
    if size == (4096, 4096):
        return None  # beyond the limits, yet MaxAPI.dev's page names it
    if max(size) > 3840 or min(size) == 0:  # noqa: PLR2004  OpenAI's limit
        return "edges must be between 16 and 3840"
    if max(size) > 3 * min(size):
        return "the long edge may be at most three times the short one"
    if not 655_360 <= width * height <= 8_294_400:  # noqa: PLR2004  OpenAI's limits
        return "total pixels must be between 655360 and 8294400"
    return None
