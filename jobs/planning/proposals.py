"""What a value may have been meant to be, where it is not legal; each is planned in its place first. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from jobs.manifest.cells import MOST_IMAGES, is_picture_size
from jobs.manifest.raw_rows import Cell
from jobs.manifest.ruined import meant_ratios, why_no_ratio, why_no_text

#: Every value that some route takes in a column.
Known = Callable[[str], Sequence[str]]
#: A value, and what has become of it on the way ("": nothing).
Meant = tuple[str, str]

#: Proposals that are made for one value.
_PROPOSED = 3
#: Columns that say the same thing in different words.
_SIZES = ("ratio", "resolution", "size")
_SIZE = re.compile(r"(\d{2,5})\s*(?:px|pixels?)?\s*[x×*,;:/ ]\s*(\d{2,5})\s*(?:px|pixels?)?", re.IGNORECASE)  # noqa: RUF001  as people write it
_EDGE = re.compile(r"(\d{3,4})(?:\s*(?:px|pixels?))?", re.IGNORECASE)
_COUNT = re.compile(r"x?\s*(\d{1,2})(?:[.,]0+)?\s*(?:x|pcs|images?|pictures?)?", re.IGNORECASE)
#: What the largest part of OpenAI's free sizes has to be a multiple of.
_STEP = 16
#: How far a ratio may be from a size's own.
_NEAR = 0.02
#: Words that other services use, in the order in which they are likely.
_RATIO_WORDS = {
    "square": ("1:1",),
    "square_hd": ("1:1",),
    "portrait": ("2:3", "9:16"),
    "landscape": ("3:2", "16:9"),
    "horizontal": ("3:2", "16:9"),
    "vertical": ("2:3", "9:16"),
    "tall": ("2:3", "9:16"),
    "wide": ("16:9",),
    "widescreen": ("16:9",),
    "portrait_4_3": ("3:4",),
    "portrait_16_9": ("9:16",),
    "landscape_4_3": ("4:3",),
    "landscape_16_9": ("16:9",),
}
_RESOLUTION_WORDS = {
    **dict.fromkeys(("1024", "1024p", "hd", "sd", "720", "1024px"), ("1k", "720p")),
    **dict.fromkeys(("2048", "2048p", "fhd", "fullhd", "full_hd", "1080", "qhd", "1440p", "2048px"), ("2k", "1080p")),
    **dict.fromkeys(("4096", "3840", "2160p", "uhd", "ultrahd", "ultra_hd", "4k_uhd", "4096px"), ("4k",)),
}
_QUALITY_WORDS = {
    **dict.fromkeys(("hd", "best", "ultra", "premium", "hi", "hq", "max", "maximum"), ("high",)),
    **dict.fromkeys(("standard", "normal", "mid", "med", "regular", "default"), ("medium",)),
    **dict.fromkeys(("draft", "fast", "min", "minimum", "lo"), ("low",)),
}


@dataclass(frozen=True, slots=True)
class Trial:
    """A row that cannot be made; what it may have been meant to be is tried before it is said."""

    asked: Mapping[str, str]  # its values, by known column
    problems: Sequence[Cell]
    judge: Callable[[Mapping[str, str]], Sequence[Cell]]  # what would be wrong with other values
    known: Known

    def meant(self, column: str) -> str:
        """What was perhaps meant, such as `did you mean 16:9?`; or what has become of it. Empty: nobody can tell."""
        value = self.asked.get(column)
        if value is None:
            return ""
        accepted: dict[str, str] = {}
        others = self._wrong_without(column)
        for each, why in meant(column, value, self.known):
            if each != value and self._wrong({**self.asked, column: each}) <= others:
                accepted.setdefault(each, why)
        if accepted:
            return _did_you_mean(accepted)
        why_not = why_no_text(value, whole=True) or (why_no_ratio(value) if column == "ratio" else "")
        return f"{why_not}." if why_not else ""

    def elsewhere(self, column: str) -> str:
        """The column that the value of this one is legal in; empty: none."""
        rest = {known: text for known, text in self.asked.items() if known != column}
        for other in _SIZES if column in _SIZES and column in self.asked else ():
            is_free = other not in self.asked
            if is_free and self._wrong({**rest, other: self.asked[column]}) <= self._wrong_without(column) - {other}:
                return other
        return ""

    def _wrong(self, values: Mapping[str, str]) -> set[str]:
        return {cell.column for cell in self.judge(values)}

    def _wrong_without(self, column: str) -> set[str]:
        """What else is wrong, with this value or without it."""
        rest = {known: text for known, text in self.asked.items() if known != column}
        return ({cell.column for cell in self.problems} | self._wrong(rest)) - {column}


def near_providers(name: str, known: Sequence[str]) -> list[str]:
    """Providers with such a name, the nearest first."""
    return difflib.get_close_matches(name.strip().casefold(), known, n=2, cutoff=0.5)


def _did_you_mean(accepted: Mapping[str, str]) -> str:
    """What is proposed, such as `a spreadsheet has made a time of it; did you mean 16:9?`."""
    first = next(iter(accepted.values()))
    names = [each for each, why in accepted.items() if why == first][:_PROPOSED]
    told = " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
    return f"{first}{'; ' if first else ''}did you mean {told}?"


def meant(column: str, text: str, known: Known) -> Iterator[Meant]:
    """Values that a text may have been meant to be, the likeliest first."""
    plain = text.strip()
    word = re.sub(r"[\s-]+", "_", plain.casefold())
    if column == "model":
        yield from ((name, "") for name in _models(plain, known("model")))
    elif column == "provider":
        yield from ((name, "") for name in near_providers(plain, known("provider")))
    elif column == "ratio":
        yield from meant_ratios(plain, known("ratio"))
        yield from ((ratio, "") for ratio in _RATIO_WORDS.get(word, ()))
    elif column == "resolution":
        yield from ((each, "") for each in _RESOLUTION_WORDS.get(word.replace(" ", ""), ()))
        near = difflib.get_close_matches(word.replace("_", ""), known("resolution"), n=1, cutoff=0.75)
        yield from ((each, "") for each in near)
    elif column == "quality":
        yield from ((each, "") for each in _QUALITY_WORDS.get(word, ()))
        yield from ((each, "") for each in difflib.get_close_matches(word, known("quality"), n=1, cutoff=0.75))
    elif column == "n":
        count = _COUNT.fullmatch(plain)
        if count and 1 <= int(count[1]) <= MOST_IMAGES:
            yield count[1], "a number with a decimal comma" if "," in plain else ""
    elif column == "size":
        yield from ((size, "") for size in _sizes(plain, known("size")))


def _models(text: str, known: Sequence[str]) -> Iterator[str]:
    """Others put their own name before a model's (openai/gpt-image-2), or a version behind it (gpt-image-2:free).

    A model for videos has a name near to that of one for pictures, and is not that.
    """
    if "video" in text.casefold():
        return
    parts = [part for part in re.split(r"[/:@\s]+", text[:200].casefold()) if part]
    exact = [part for part in parts if part in known]
    near = (difflib.get_close_matches(part, known, n=3, cutoff=0.6) for part in reversed(parts))
    yield from exact[-1:] or next((names for names in near if names), [])


def _sizes(text: str, known: Sequence[str]) -> Iterator[str]:
    """The same pixels in legal words, the nearest legal ones, and documented ones of the same shape."""
    edge, pair = _EDGE.fullmatch(text), _SIZE.fullmatch(text)
    if not (edge or pair):
        return
    width, height = (int(edge[1]), int(edge[1])) if edge else (int(pair[1]), int(pair[2])) if pair else (0, 0)
    if not is_picture_size(f"{width}x{height}"):
        return
    rounded = f"{-(-width // _STEP) * _STEP}x{-(-height // _STEP) * _STEP}"
    alike = [size for size in known if abs(_shape(size) * height / width - 1) < _NEAR]
    nearest = sorted(alike, key=lambda size: abs(int(size.partition("x")[0]) - width))
    yield from (size for size in dict.fromkeys([f"{width}x{height}", rounded, *nearest[:1]]) if size != text)


def _shape(size: str) -> float:
    width, _, height = size.partition("x")
    return int(width) / int(height)
