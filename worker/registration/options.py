"""What is asked of a batch, as people write it: the options of a command line, of a schedule, of a request."""

from __future__ import annotations

import enum
import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from decimal import Decimal
from typing import Any, TypeVar

from jobs.errors import BadInput
from jobs.formatting import dollars
from jobs.policy.failover import Failover
from jobs.results.completion import Allowed
from jobs.whole_text import why_not_whole
from providers.types import MICROS


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchOptions:
    """What is asked of a batch, by the names of `run`'s options. Texts are as written; "" and None: not said."""

    manifest: str
    to: str = ""
    batch: str = ""
    prompt: str = ""
    model: str = ""
    provider: str = ""
    ratio: str = ""
    resolution: str = ""
    n: str = ""
    map: tuple[str, ...] = ()
    skip_empty: str = ""
    strict_size: bool = False
    verify: str = ""
    sidecar: bool = False
    skip_bad: bool = False
    path: str = ""
    delimiter: str = ""
    encoding: str = ""
    text: bool = False
    sheet: str = ""
    header_row: int | None = None
    check_urls: bool = False
    limit: int | None = None
    vary: tuple[str, ...] = ()
    repeat: int = 1
    sample: int | None = None
    seed: int | None = None
    dedup: bool = False
    budget: str | None = None
    partial: bool = False
    changed: str = "error"
    append: bool = False
    reuse: str = ""
    buy_again: bool = False
    failover: str = ""
    priority: str | None = None
    allow_failed: str | None = None
    max_stall: str | None = None
    stop_after: str | None = None
    notify: tuple[str, ...] = ()  # names of channels of the settings; never addresses, which hold secrets
    new_ledger: bool = False

    def to_json(self) -> dict[str, Any]:
        """What was said, as plain JSON values; `from_json` reads it."""
        said = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "manifest"}
        given = {name: value for name, value in said.items() if value != _UNSAID[name]}
        lists = {name: list(value) for name, value in given.items() if isinstance(value, tuple)}
        return {"manifest": self.manifest, **given, **lists}

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> BatchOptions:
        """The options that `to_json` has given."""
        lists = {name: tuple(value) for name, value in kept.items() if isinstance(value, list)}
        return cls(**{**kept, **lists})


#: An option as messages name it, and what a request calls it; those that a request does not have stay as they are.
_OPTION = re.compile(r"(?<![\w-])--([a-z]+(?:-[a-z]+)*)\b(?: [A-Z]+\b(?!=))?")
_FIELDS = {each.name.replace("_", "-"): each.name for each in fields(BatchOptions)} | {"budget": "budget_usd"}
#: What is the user's own in a document, and may look like an option.
_OWN = frozenset({"value", "prompt", "key", "manifest", "batch"})


def as_fields(text: str) -> str:
    """A message in the words of programs, which give fields and no options: `to` for --to DEST."""
    return _OPTION.sub(lambda found: f"`{_FIELDS[found[1]]}`" if found[1] in _FIELDS else found[0], text)


def in_fields(told: Any) -> Any:
    """A document with its messages in the words of programs; the user's own texts stay as they are."""
    if isinstance(told, str):
        return as_fields(told)
    if isinstance(told, Mapping):
        return {name: value if name in _OWN else in_fields(value) for name, value in told.items()}
    return [in_fields(each) for each in told] if isinstance(told, list | tuple) else told


_UNSAID = {each.name: each.default for each in fields(BatchOptions)}
#: The least of each option that is a number; and the most of all of them, to which a loop can count.
_LEAST = {"header_row": 1, "limit": 1, "repeat": 1, "sample": 1, "seed": -sys.maxsize}
_MOST = sys.maxsize


def demand_readable(options: BatchOptions) -> None:
    """Looks that each text is one that can be kept, and each number one that can be counted to, whatever they mean.

    Raises:
        BadInput: All that is wrong, at once.
    """
    problems = [
        f"{'manifest' if each.name == 'manifest' else '--' + each.name.replace('_', '-')}: {why}"
        for each in fields(options)
        for why in _unreadable(each.name, getattr(options, each.name))
    ]
    if problems:
        raise BadInput(problems)


def _unreadable(name: str, value: object) -> Iterator[str]:
    """What is wrong, without the value: no screen and no page could show it."""
    texts = [value] if isinstance(value, str) else value if isinstance(value, tuple) else ()
    if why := next(filter(None, map(why_not_whole, texts)), None):
        yield f"expected a text, but {why}"
    if name in _LEAST and isinstance(value, int) and not _LEAST[name] <= value <= _MOST:
        yield f"expected a whole number from {_LEAST[name]:,} to {_MOST:,}"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkLimits:
    """What bounds the work, read from the options."""

    budget: int | None = None  # micro-dollars
    allowed: Allowed = field(default_factory=Allowed)
    max_stall: float | None = None  # seconds; None: for ever
    stop_after: float | None = None  # seconds
    priority: float | None = None  # None: as before, else 1


#: Characters of an amount: no decimal holds one of a million digits.
_LONGEST_AMOUNT = 100
#: Beyond these, a batch would wait for the others to be done, or they for it.
LEAST_PRIORITY = 0.01
#: How long a run without a terminal waits for a person.
UNATTENDED_STALL = 15 * 60.0


def read_limits(options: BatchOptions, *, attended: bool) -> WorkLimits:
    """Reads every option that bounds the work. `attended`: a person sees what it waits for, and may let it wait.

    Raises:
        BadInput: All that is wrong, at once.
    """
    reader = OptionReader()
    limits = WorkLimits(
        budget=reader.read("--budget", options.budget, read_money, None),
        allowed=reader.read("--allow-failed", options.allow_failed, read_allowed, Allowed()),
        max_stall=reader.read("--max-stall", options.max_stall, read_duration, unset_stall(attended=attended)),
        stop_after=reader.read("--stop-after", options.stop_after, read_duration, None),
        priority=reader.read("--priority", options.priority, read_priority, None),
    )
    if options.changed not in ("error", "keep", "redo"):
        reader.problems.append(f'--changed: "{options.changed}": expected error, keep or redo')
    if options.failover and options.failover not in tuple(Failover):
        reader.problems.append(f'--failover: "{options.failover}": expected equal, any-size or off')
    if options.reuse not in ("", "copy", "link"):
        reader.problems.append(f'--reuse: "{options.reuse}": expected nothing after it, copy or link')
    if options.verify not in ("", "decode"):
        reader.problems.append(f'--verify: "{options.verify}": expected decode')
    if options.partial and options.budget is None:
        reader.problems.append("--partial: works until the budget is used: give one with --budget USD")
    if reader.problems:
        raise BadInput(reader.problems)
    return limits


T = TypeVar("T")
C = TypeVar("C", bound=enum.StrEnum)


class OptionReader:
    """Reads the values of options, collecting what is wrong."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def read(self, name: str, text: str | None, reader: Callable[[str], T], unset: T) -> T:
        """The value of the option `name`; `unset` where it is not given, or wrong."""
        if text is None:  # an empty one is no "none": `--budget "$CAP"` of a script whose CAP is not set
            return unset
        try:
            return reader(text)
        except ValueError as wrong:
            self.problems.append(f'{name}: "{text}": expected {wrong}')
            return unset


def read_option(name: str, text: str | None, reader: Callable[[str], T], unset: T) -> T:
    """One option's value; `unset` where it is not given."""
    collector = OptionReader()
    value = collector.read(name, text, reader, unset)
    if collector.problems:
        raise BadInput(collector.problems)
    return value


def choice_of(choices: type[C]) -> Callable[[str], C]:
    """A reader of one of these words."""

    def read(text: str) -> C:
        try:
            return choices(text)
        except ValueError:
            raise ValueError(" or ".join(choices)) from None

    return read


def read_priority(text: str) -> float:
    """A batch's weight among those that share an account."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not LEAST_PRIORITY <= value <= 1 / LEAST_PRIORITY:
        raise ValueError("a number from 0.01 to 100, such as 2 for twice the usual share")
    return value


def read_money(text: str) -> int:
    """Dollars to micro-dollars. A comma stands between thousands, where nothing else can be meant.

    In many countries it stands before the cents: "0,10" would be read as a hundred times as much, "2,500" as a thousand
    times. "1,234,567" and "2,500.00" are clear.
    """
    number = text.strip().removeprefix("$")
    if "," in number and not re.fullmatch(r"[1-9]\d{0,2}(,\d{3})+(\.\d*)?", number):
        raise ValueError("an amount in USD such as 25 or 12.50, with a point before the cents")
    if number.count(",") == 1 and "." not in number:
        thousandths = int(number.replace(",", ""))
        either = [dollars(thousandths * MICROS), dollars(thousandths * MICROS // 1_000)]
        raise ValueError(f"{' or '.join(either)}: a comma can stand between thousands, and before the cents")
    is_number = len(number) <= _LONGEST_AMOUNT and re.fullmatch(r"[0-9,]+(\.[0-9]*)?|\.[0-9]+", number)
    if not is_number:  # Decimal also takes "2_5", "1e3" and "Infinity"
        raise ValueError("an amount in USD such as 25 or 12.50")
    micros = int(Decimal(number.replace(",", "")) * MICROS)
    if not 0 < micros < 10**15:
        raise ValueError("an amount above 0 in USD such as 25 or 12.50")
    return micros


def unset_stall(*, attended: bool) -> float | None:
    """Seconds to wait for a person where --max-stall is not given; None: for ever."""
    return None if attended else UNATTENDED_STALL


_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}


def read_duration(text: str) -> float:
    """90s, 15m, 6h, 1h30m; a bare number is seconds."""
    parts = re.findall(r"([0-9]+(?:\.[0-9]+)?)\s*(min|[smhd])?", text.strip())
    if not re.fullmatch(r"([0-9]+(\.[0-9]+)?\s*(min|[smhd])\s*)+|[0-9]+(\.[0-9]+)?", text.strip()):
        raise ValueError("a time such as 90s, 15m, 6h or 1h30m")
    return sum(float(number) * _UNITS[unit or "s"] for number, unit in parts)


def read_allowed(text: str) -> Allowed:
    """Reads "2%" (of the rows) or "20" (rows)."""
    number = text.strip().removesuffix("%")
    if not re.fullmatch(r"\d+(\.\d+)?", number) or (text == number and "." in number):
        raise ValueError("a share such as 2%, or a number of rows")
    if text == number:
        return Allowed(rows=int(number))
    return Allowed(share=min(float(number), 100.0) / 100)
