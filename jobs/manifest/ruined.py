"""Values that a spreadsheet or a program made of what was meant: errors, missing values, times, dates. Pure.

Sources: the error values of Excel and LibreOffice, in English and in the words of other languages; how Excel reads 16:9
(a time), 3/2 (a date) and 1020000000123 (a number, shown with an exponent); what pandas, JavaScript and SQL write for a
missing value.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator

#: #NAME? #REF! #N/A #DIV/0! #VALUE!; German #BEZUG! #NV, Spanish #¿NOMBRE?; ##### in a narrow column; Err:502.
_ERROR = re.compile(r"#[¡¿]?[A-ZÀ-Ý/0]{3,12}[!?]|#N/?[AVD]|#{3,}|Err:\d{3}")
_ERROR_STARTS = frozenset("#e")
#: What programs write for a missing value; nobody means a picture, or a key, of these.
_MISSING = frozenset({"nan", "null", "undefined", "<na>", "nat", "[object object]"})
#: Missing values too, most often; but a colour may be None, and NA is Namibia.
_DOUBTFUL = frozenset({"none", "n/a", "na", "-", "--"})
#: What spreadsheets and programs make of yes and no.
_TRUTHS = frozenset({"true", "false", "wahr", "falsch", "vrai", "faux", "verdadero", "falso"})
#: How any of these begins; most cells begin otherwise.
_STARTS = _ERROR_STARTS | {word[0] for words in (_MISSING, _DOUBTFUL, _TRUTHS) for word in words}
#: None of these words is longer.
LONGEST_WORD = 16

_TIME = re.compile(r"(?:.*[ T])?(\d{1,2}):(\d{2})(?::00(?:\.0+)?)?(?: ?([AaPp])\.?[Mm]\.?)?")
_NUMBER = re.compile(r"\d*[.,]?\d+")
_PAIR = re.compile(r"(\d{1,5})\s*(?:[:x×∶/_,.;–-]|to|by)\s*(\d{1,5})", re.IGNORECASE)  # noqa: RUF001  as people write it
_EXPONENT = re.compile(r"[+-]?\d(?:[.,]\d+)?E\+\d{1,3}", re.IGNORECASE)
_SEPARATOR = re.compile(r"[-+. ]")
_MONTHS = (
    r"jan|feb|mar|apr|may|jun|jul|aug|sep|sept|oct|nov|dec|mrz|mär|mai|okt|dez"
    r"|janv|févr|mars|avr|juin|juil|août|déc|ene|abr|ago|dic|gen|mag|giu|lug|set|ott|mrt|mei|fev|out"
)
_DATE = re.compile(
    rf"(\d{{1,2}})[-. ]{{1,2}}({_MONTHS})\.?(?:[-. ]\d{{2,4}})?|({_MONTHS})\.?[- ](\d{{1,2}})", re.IGNORECASE
)
_DAY = re.compile(r"(?:\d{4}-(\d{2})-(\d{2})(?:[ T]00:00:00)?|(\d{1,2})[/.](\d{1,2})[/.]\d{2,4})")
_MONTH_NUMBERS = {
    **dict.fromkeys(("jan", "janv", "ene", "gen"), 1),
    **dict.fromkeys(("feb", "févr", "fev"), 2),
    **dict.fromkeys(("mar", "mrz", "mär", "mars", "mrt"), 3),
    **dict.fromkeys(("apr", "avr", "abr"), 4),
    **dict.fromkeys(("may", "mai", "mag", "mei"), 5),
    **dict.fromkeys(("jun", "juin", "giu"), 6),
    **dict.fromkeys(("jul", "juil", "lug"), 7),
    **dict.fromkeys(("aug", "août", "ago"), 8),
    **dict.fromkeys(("sep", "sept", "set"), 9),
    **dict.fromkeys(("oct", "okt", "ott", "out"), 10),
    **dict.fromkeys(("nov",), 11),
    **dict.fromkeys(("dec", "dez", "déc", "dic"), 12),
}
#: UTF-8 that was read as Windows-1252 once too often: accents, quotation marks, a degree sign, smileys, Cyrillic; the
#: sign for characters that could not be read; control characters, which Latin-1 makes of Windows-1252's euro.
_MOJIBAKE = re.compile(
    "Ã[\u0080-\u009f\u00a0-\u00ba\u00bc-\u00bf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘“•–—˜™š›œžŸ]|Â[\u00a0-\u00ba\u00bc-\u00bf]|â€.|ðŸ."  # noqa: RUF001  these are the characters
    "|(?:[ÐÑ][\u0080-\u00bf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]){2}|[\u0080-\u009f\ufffd]"  # noqa: RUF001  these are the characters
)

#: Characters shown on each side of what was decoded wrongly.
_AROUND = 20
#: How near a number has to come to a ratio, and to the part of a day that a time is.
_NEAR, _NEAR_TIME = 0.006, 0.0004
_MINUTES = 1_440


def why_no_text(text: str, *, whole: bool = False) -> str | None:
    """What a cell holds that nobody means; None: a text like any other.

    `whole`: it is all of a prompt, so that `None` and `TRUE` are no text either.
    """
    if len(text) > LONGEST_WORD:
        return None
    word = text.strip().casefold()
    if word[:1] not in _STARTS:
        return None
    if word[:1] in _ERROR_STARTS and _ERROR.fullmatch(text.strip()):
        return "a spreadsheet's error stands here, and no text: correct it in the file"
    if whole and word in _TRUTHS:
        return "a spreadsheet's or a program's truth value stands here: write what is meant"
    if word in _MISSING or (whole and word in _DOUBTFUL):
        return "this stands for a missing value, and is no text: fill it in, or leave the cell empty"
    return None


def is_doubtful(text: str) -> bool:
    """Whether a cell holds `None`, `N/A` or a truth value: a missing value, perhaps."""
    if len(text) > LONGEST_WORD:
        return False
    word = text.strip().casefold()
    return word[:1] in _STARTS and (word in _DOUBTFUL or word in _TRUTHS)


def why_no_key(key: str) -> str | None:
    """What a spreadsheet seems to have made of a key; None: nothing."""
    if len(key) > LONGEST_WORD or not _SEPARATOR.search(key):
        return None
    if _EXPONENT.fullmatch(key):
        return "this looks like a long number that a spreadsheet has rounded; export that column as text"
    if _DATE.fullmatch(key):
        return "this looks like a date that a spreadsheet has made of the key; export that column as text"
    return None


def excerpt_of_mojibake(text: str) -> str | None:
    """The first characters that were decoded wrongly before the text got here, with what stands around them."""
    found = _MOJIBAKE.search(text)
    return text[max(0, found.start() - _AROUND) : found.end() + _AROUND] if found else None


# -- ratios --------------------------------------------------------------------------------------------------------


def meant_ratios(text: str, known: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Ratios that a text may stand for, the likeliest first, each with what has become of it ("": nothing)."""
    ratios = {ratio: (int(pair[0]), int(pair[1])) for ratio in known if len(pair := ratio.split(":")) == 2}  # noqa: PLR2004  a:b
    by_pair = {pair: ratio for ratio, pair in ratios.items()}
    plain = text.strip()
    if (time := _time(plain)) in by_pair:
        yield by_pair[time], "a spreadsheet has made a time of it"
    if day := _day(plain):
        both = (by_pair[pair] for pair in (day, day[::-1]) if pair in by_pair)
        yield from ((ratio, "a spreadsheet has made a date of it") for ratio in both)
    elif _NUMBER.fullmatch(plain):
        yield from _by_number(float(plain.replace(",", ".")), ratios)
    if (pair_of := _PAIR.fullmatch(plain)) and int(pair_of[1]) and int(pair_of[2]):
        width, height = int(pair_of[1]), int(pair_of[2])
        divisor = math.gcd(width, height)
        yield from ((by_pair[pair], "") for pair in [(width // divisor, height // divisor)] if pair in by_pair)


def why_no_ratio(text: str) -> str:
    """What a spreadsheet may have made of a ratio that cannot be told any more; empty where it is none of these."""
    plain = text.strip()
    made = {"time": _time(plain) != (0, 0), "date": _day(plain), "number": _NUMBER.fullmatch(plain)}
    what = next((name for name, is_so in made.items() if is_so), "")
    return f"a spreadsheet may have made this {what} of a ratio; export that column as text" if what else ""


def _time(text: str) -> tuple[int, int]:
    """Hour and minute of a time; (0, 0): it is none."""
    time = _TIME.fullmatch(text)
    if time is None:
        return 0, 0
    afternoon = 12 if (time[3] or "").casefold() == "p" and int(time[1]) < 12 else 0  # noqa: PLR2004  hours
    return int(time[1]) + afternoon, int(time[2])


def _day(text: str) -> tuple[int, int] | None:
    """The day and the month of a date."""
    if named := _DATE.fullmatch(text):
        day, month = named[1] or named[4], named[2] or named[3]
        return int(day), _MONTH_NUMBERS[month.casefold()]
    if numbered := _DAY.fullmatch(text):
        return int(numbered[2] or numbered[3]), int(numbered[1] or numbered[4])
    return None


def _by_number(number: float, ratios: dict[str, tuple[int, int]]) -> Iterator[tuple[str, str]]:
    """Ratios as a part of a day, and as width divided by height."""
    for ratio, (width, height) in ratios.items():
        if abs(number - (width * 60 + height) / _MINUTES) < _NEAR_TIME:
            yield ratio, "a spreadsheet has made a time of it, as a part of a day"
    for ratio, (width, height) in ratios.items():
        if abs(number - width / height) < _NEAR:
            yield ratio, ""
